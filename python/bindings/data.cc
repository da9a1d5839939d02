#include <pybind11/numpy.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "deepseek_train/core/env.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/data/distributed_sampler.h"
#include "deepseek_train/data/token_store.h"
#include "python/bindings/bindings.h"

namespace py = pybind11;

namespace deepseek_train::python {
namespace {

using data::DistributedSampler;
using data::TokenStore;

py::object json_loads(const std::string& text) {
  return py::module_::import("json").attr("loads")(text);
}

// A sampler that is also looped over as PyTorch's: a loop that follows a finished loop begins the
// epoch again. After load_state_dict it does not, so that an epoch which was saved at its end stays
// ended.
struct PySampler {
  DistributedSampler sampler;
  bool loop_finished = false;
};

// One loop; it moves the sampler. Once ended it stays ended, as Python wants of iterators.
class SamplerLoop {
 public:
  explicit SamplerLoop(PySampler& sampler) : sampler_(sampler) {
    if (sampler.loop_finished && sampler.sampler.remaining() == 0) sampler.sampler.restart();
    sampler.loop_finished = false;
  }
  int64_t next() {
    if (!ended_)
      if (auto sample = sampler_.sampler.next()) return *sample;
    ended_ = sampler_.loop_finished = true;
    throw py::stop_iteration();
  }

 private:
  PySampler& sampler_;
  bool ended_ = false;
};

// A dataset counts by its len(), as in PyTorch.
int64_t num_samples_of(const py::object& dataset) {
  return py::hasattr(dataset, "__len__") ? static_cast<int64_t>(py::len(dataset))
                                         : dataset.cast<int64_t>();
}

PySampler make_sampler(const py::object& dataset, int num_replicas, int rank, bool shuffle,
                       uint64_t seed, bool drop_last) {
  return {DistributedSampler({.num_samples = num_samples_of(dataset),
                              .num_replicas = num_replicas,
                              .rank = rank,
                              .shuffle = shuffle,
                              .seed = seed,
                              .drop_last = drop_last})};
}

void load_state_dict(PySampler& self, const py::dict& state) {
  self.sampler.load_state_dict(
      py::module_::import("json").attr("dumps")(state).cast<std::string>());
  self.loop_finished = false;
}

std::string describe_sampler(const PySampler& self) {
  const auto& options = self.sampler.options();
  return concat("<deepseek_train.DistributedSampler of ", options.num_samples, " samples, rank ",
                options.rank, " of ", options.num_replicas, ", epoch ", self.sampler.epoch(), ">");
}

constexpr const char* kSamplerDoc =
    R"(The share of one rank of a dataset's samples, as torch.utils.data.DistributedSampler takes them.

`dataset` is anything with a length, or the number of samples. Without shuffle the indices equal PyTorch's. With
shuffle the order depends on seed and epoch alone and is the same for every number of ranks, so a state saved on
four ranks goes on with three and nothing is lost or seen twice. Costs no memory per sample.

    sampler = deepseek_train.DistributedSampler(dataset, num_replicas=communicator.size, rank=communicator.rank)
    for epoch in range(sampler.epoch, num_epochs):
        sampler.set_epoch(epoch)
        for index in sampler:
            ...

A loop that is left early goes on where it stopped; restart() or the next epoch begins anew.)";

void bind_sampler(py::module_& module) {
  auto get = [](auto member) {
    return [member](const PySampler& self) { return (self.sampler.*member)(); };
  };
  auto option = [](auto member) {
    return [member](const PySampler& self) { return self.sampler.options().*member; };
  };
  using Options = data::DistributedSamplerOptions;
  py::class_<SamplerLoop>(module, "_SamplerLoop")
      .def("__iter__", [](py::object self) { return self; })
      .def("__next__", &SamplerLoop::next);
  py::class_<PySampler>(module, "DistributedSampler", kSamplerDoc)
      .def(py::init(&make_sampler), py::arg("dataset"), py::arg("num_replicas") = 1,
           py::arg("rank") = 0, py::arg("shuffle") = true, py::arg("seed") = 0,
           py::arg("drop_last") = false)
      .def("__len__", get(&DistributedSampler::size), "Samples of this rank in a whole epoch.")
      .def(
          "__iter__", [](PySampler& self) { return SamplerLoop(self); }, py::keep_alive<0, 1>(),
          "This rank's samples from the sampler's position to the end of the epoch.")
      .def(
          "index", [](const PySampler& self, int64_t k) { return self.sampler.index(k); },
          py::arg("k"), "This rank's k-th sample of the whole epoch; moves nothing.")
      .def(
          "skip", [](PySampler& self, int64_t count) { self.sampler.skip(count); },
          py::arg("count"), "Counts `count` samples of this rank as taken.")
      .def(
          "set_epoch", [](PySampler& self, int64_t epoch) { self.sampler.set_epoch(epoch); },
          py::arg("epoch"),
          "Begins another epoch at its first sample; the current epoch keeps its position.")
      .def(
          "restart", [](PySampler& self) { self.sampler.restart(); }, "Begins the epoch again.")
      .def(
          "state_dict", [](const PySampler& self) { return json_loads(self.sampler.state_dict()); },
          "The position, as values that JSON can hold: the same on every rank, of use at any "
          "number of ranks.")
      .def("load_state_dict", &load_state_dict, py::arg("state_dict"),
           "Goes on from a saved position; InvalidArgument if it is of other data or another seed.")
      .def_property_readonly("remaining", get(&DistributedSampler::remaining),
                             "Samples of this rank still to come.")
      .def_property_readonly("epoch", get(&DistributedSampler::epoch))
      .def_property_readonly("position", get(&DistributedSampler::position),
                             "Samples that all ranks together have taken in this epoch.")
      .def_property_readonly("num_samples", option(&Options::num_samples), "Samples of all ranks.")
      .def_property_readonly("num_replicas", option(&Options::num_replicas))
      .def_property_readonly("rank", option(&Options::rank))
      .def_property_readonly("shuffle", option(&Options::shuffle))
      .def_property_readonly("seed", option(&Options::seed))
      .def_property_readonly("drop_last", option(&Options::drop_last))
      .def("__repr__", &describe_sampler);
}

// A named tuple of deepseek_train/document.py: tokens uint32 [n], loss_spans int64 [m, 2].
py::object document_of(const TokenStore& store, int64_t i) {
  data::Document document;
  {
    py::gil_scoped_release release;
    document = store.document(i);
  }
  py::array_t<uint32_t> tokens(static_cast<py::ssize_t>(document.tokens.size()),
                               document.tokens.data());
  py::array_t<int64_t> spans(
      {static_cast<py::ssize_t>(document.loss_spans.size()), py::ssize_t{2}});
  auto rows = spans.mutable_unchecked<2>();
  for (py::ssize_t row = 0; row < rows.shape(0); ++row) {
    rows(row, 0) = document.loss_spans[static_cast<size_t>(row)].begin;
    rows(row, 1) = document.loss_spans[static_cast<size_t>(row)].end;
  }
  return py::module_::import("deepseek_train.document").attr("Document")(tokens, spans);
}

// Counts from the end where negative; IndexError ends Python's loops.
py::object item_of(const TokenStore& store, int64_t i) {
  const int64_t index = i < 0 ? i + store.size() : i;
  if (index < 0 || index >= store.size())
    throw py::index_error(
        concat("document ", i, " of ", store.path(), ", which holds ", store.size()));
  return document_of(store, index);
}

constexpr const char* kStoreDoc =
    R"(Tokenized documents in one HDF5 file, as `deepseek-train prepare` writes it.

Opening checks the whole structure: NotFound if there is no such file, DataCorruption if it is cut or altered.
Documents are copied out of the mapped file; any number of threads may read.)";

void bind_store(py::module_& module) {
  py::class_<TokenStore>(module, "TokenStore", kStoreDoc)
      .def(py::init([](const std::filesystem::path& path) {
             return std::make_unique<TokenStore>(posix_env(), path.string());
           }),
           py::arg("path"), py::call_guard<py::gil_scoped_release>())
      .def("__len__", &TokenStore::size, "Number of documents.")
      .def("__getitem__", &item_of, py::arg("i"),
           "Document i, counted from the end where negative.")
      .def("document", &document_of, py::arg("i"),
           "Document i as (tokens, loss_spans): uint32 [n], and int64 [m, 2] of begin and end of "
           "what is trained on.")
      .def("length", &TokenStore::length, py::arg("i"),
           "Tokens of document i, without reading them.")
      .def(
          "check_tokenizer",
          [](const TokenStore& self, const std::string& sha256) { self.check_tokenizer(sha256); },
          py::arg("sha256"),
          "InvalidArgument unless the store was made with the tokenizer of this hash.")
      .def_property_readonly("path", &TokenStore::path)
      .def_property_readonly("num_tokens", &TokenStore::num_tokens)
      .def_property_readonly("num_loss_tokens", &TokenStore::num_loss_tokens,
                             "Tokens that are trained on.")
      .def_property_readonly("tokenizer_sha256", &TokenStore::tokenizer_sha256)
      .def_property_readonly(
          "provenance", [](const TokenStore& self) { return json_loads(self.provenance()); },
          "Where the documents come from: inputs with their hashes, templates, counts.")
      .def("__repr__", [](const TokenStore& self) {
        return concat("<deepseek_train.TokenStore ", self.path(), ", ", self.size(), " documents>");
      });
}

}  // namespace

void bind_data(py::module_& module) {
  bind_sampler(module);
  bind_store(module);
}

}  // namespace deepseek_train::python
