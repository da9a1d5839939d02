#include <pybind11/stl.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deepseek_train/collectives/communicator.h"
#include "deepseek_train/core/error.h"
#include "python/bindings/arrays.h"
#include "python/bindings/bindings.h"

namespace py = pybind11;

namespace deepseek_train::python {
namespace {

using collectives::Collective;
using collectives::CollectiveCall;
using collectives::Communicator;
using collectives::ReduceOp;

// A communicator that ends when a `with` block does, not when the garbage collector finds it. A
// call under way holds it too, so closing it from another thread is safe.
class PyCommunicator {
 public:
  explicit PyCommunicator(std::shared_ptr<Communicator> communicator)
      : communicator_(std::move(communicator)),
        rank_(communicator_->rank()),
        size_(communicator_->size()) {}
  ~PyCommunicator() { close(); }

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool closed() const { return communicator_ == nullptr; }
  void close() {
    py::gil_scoped_release release;
    communicator_.reset();
  }
  std::shared_ptr<Communicator> get() const {
    DST_CHECK(communicator_, "the communicator is closed; make a new one");
    return communicator_;
  }

 private:
  std::shared_ptr<Communicator> communicator_;
  int rank_;
  int size_;
};

std::chrono::milliseconds milliseconds_of(double seconds) {
  DST_CHECK(std::isfinite(seconds) && seconds > 0 && seconds < 1e9, "timeout is ", seconds,
            " seconds, wanted more than 0");
  return std::chrono::ceil<std::chrono::milliseconds>(std::chrono::duration<double>(seconds));
}

std::unique_ptr<PyCommunicator> make(std::string backend, std::string transport,
                                     std::string algorithm, double timeout, bool insecure_network) {
  collectives::CommunicatorOptions options;
  options.launch = collectives::launch_info_from_environment();
  options.backend = std::move(backend);
  options.transport = std::move(transport);
  options.algorithm = std::move(algorithm);
  options.timeout = milliseconds_of(timeout);
  options.insecure_network = insecure_network;
  return std::make_unique<PyCommunicator>(collectives::make_communicator(options));
}

ReduceOp parse_reduce_op(const std::string& name) {
  for (auto op : {ReduceOp::kSum, ReduceOp::kMin, ReduceOp::kMax, ReduceOp::kAvg, ReduceOp::kProd,
                  ReduceOp::kAnd, ReduceOp::kOr})
    if (name == name_of(op)) return op;
  throw InvalidArgument(concat("op is \"", name, "\", wanted sum, min, max, avg, prod, and or or"));
}

// Messages name a call by its place in the program: the Python line is not known here.
void run(const PyCommunicator& self, const CollectiveCall& call) {
  const auto communicator = self.get();
  py::gil_scoped_release release;
  communicator->run(call);
}

std::vector<py::ssize_t> shape_of(const py::object& array) {
  const auto source = py::reinterpret_borrow<py::array>(array);
  return {source.shape(), source.shape() + source.ndim()};
}

py::array empty_like(const py::object& array, const std::vector<py::ssize_t>& shape) {
  return py::array(py::reinterpret_borrow<py::array>(array).dtype(), shape);
}

// Arrays whose first dimension is one entry a rank.
std::vector<py::ssize_t> shape_of_parts(const PyCommunicator& self, const char* what,
                                        const py::object& array) {
  const auto shape = shape_of(array);
  DST_CHECK(!shape.empty() && shape[0] == self.size(), what, " needs an array of shape (",
            self.size(), ", ...), one entry a rank; its first dimension is ",
            shape.empty() ? 0 : shape[0]);
  return shape;
}

void all_reduce(const PyCommunicator& self, const py::object& array, const std::string& op) {
  const auto view = view_to_write(array);
  run(self, {.kind = Collective::kAllReduce,
             .in = view.data,
             .out = view.data,
             .count = view.count,
             .dtype = view.dtype,
             .op = parse_reduce_op(op)});
}

py::array reduce_scatter(const PyCommunicator& self, const py::object& array,
                         const std::string& op) {
  const auto in = view_to_read(array);
  const auto shape = shape_of_parts(self, "reduce_scatter", array);
  auto result = empty_like(array, {shape.begin() + 1, shape.end()});
  run(self, {.kind = Collective::kReduceScatter,
             .in = in.data,
             .out = view_to_write(result).data,
             .count = in.count / self.size(),
             .dtype = in.dtype,
             .op = parse_reduce_op(op)});
  return result;
}

py::array all_gather(const PyCommunicator& self, const py::object& array) {
  const auto in = view_to_read(array);
  auto shape = shape_of(array);
  shape.insert(shape.begin(), self.size());
  auto result = empty_like(array, shape);
  run(self, {.kind = Collective::kAllGather,
             .in = in.data,
             .out = view_to_write(result).data,
             .count = in.count,
             .dtype = in.dtype});
  return result;
}

py::array all_to_all(const PyCommunicator& self, const py::object& array) {
  const auto in = view_to_read(array);
  auto result = empty_like(array, shape_of_parts(self, "all_to_all", array));
  run(self, {.kind = Collective::kAllToAll,
             .in = in.data,
             .out = view_to_write(result).data,
             .count = in.count / self.size(),
             .dtype = in.dtype});
  return result;
}

py::object gather(const PyCommunicator& self, const py::object& array, int root) {
  const auto in = view_to_read(array);
  CollectiveCall call{.kind = Collective::kGather,
                      .in = in.data,
                      .count = in.count,
                      .dtype = in.dtype,
                      .root = root};
  if (self.rank() != root) {
    run(self, call);
    return py::none();
  }
  auto shape = shape_of(array);
  shape.insert(shape.begin(), self.size());
  auto result = empty_like(array, shape);
  call.out = view_to_write(result).data;
  run(self, call);
  return result;
}

void broadcast(const PyCommunicator& self, const py::object& array, int root) {
  const auto view = view_to_write(array);
  run(self, {.kind = Collective::kBroadcast,
             .in = view.data,
             .out = view.data,
             .count = view.count,
             .dtype = view.dtype,
             .root = root});
}

void barrier(const PyCommunicator& self) {
  const auto communicator = self.get();
  py::gil_scoped_release release;
  communicator->barrier();
}

std::unique_ptr<PyCommunicator> split(const PyCommunicator& self, std::optional<int> color,
                                      int key) {
  DST_CHECK(!color || *color >= 0, "color is ", color.value_or(0),
            ", wanted at least 0, or None to stay out");
  const auto communicator = self.get();
  py::gil_scoped_release release;
  auto part = communicator->split(color.value_or(-1), key);
  return part ? std::make_unique<PyCommunicator>(std::move(part)) : nullptr;
}

void abort(const PyCommunicator& self, const std::string& reason) {
  const auto communicator = self.get();
  py::gil_scoped_release release;
  communicator->abort(reason);
}

// An exception that leaves the block ends the group: the other ranks learn the reason at once
// instead of waiting.
void leave(PyCommunicator& self, const py::object& type, const py::object& value,
           const py::object&) {
  if (self.closed()) return;
  if (!type.is_none())
    abort(self, concat(type.attr("__name__").cast<std::string>(), ": ",
                       py::str(value).cast<std::string>()));
  self.close();
}

std::string describe(const PyCommunicator& self) {
  const auto where = self.closed() ? "closed" : self.get()->transport();
  return concat("<deepseek_train.Communicator rank ", self.rank(), " of ", self.size(), ", ", where,
                ">");
}

constexpr const char* kClassDoc = R"(The ranks of one launch, for collectives on NumPy arrays.

Who is who comes from mpirun's, torchrun's or srun's environment; without one of them it is a single process.
Making one is collective: it returns when all ranks have joined.

Arrays must be C-contiguous, of float32, float64, float16, int8, uint8, int32, int64 or bool (and bfloat16 of
ml_dtypes). All ranks call the same functions in the same order with arrays of
the same size. Every wait ends after `timeout` seconds without progress; Ctrl-C takes effect when a wait ends.
An error other than InvalidArgument ends the group: the rank that saw it says why, the others get PeerFailure.

    with deepseek_train.Communicator() as communicator:
        total = numpy.array([local_sum])
        communicator.all_reduce(total)

backend: "native" or "mpi". transport: "auto" (shared memory on one host, else TCP), "shm" or "tcp".
algorithm (TCP): "auto", "tree" (sums in an order that depends on nothing but the rank numbers) or "ring".
insecure_network: let TCP listen on every interface, in clear text.)";

}  // namespace

void bind_collectives(py::module_& module) {
  py::class_<PyCommunicator>(module, "Communicator", kClassDoc)
      .def(py::init(&make), py::kw_only(), py::arg("backend") = "native",
           py::arg("transport") = "auto", py::arg("algorithm") = "auto", py::arg("timeout") = 60.0,
           py::arg("insecure_network") = false, py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("rank", &PyCommunicator::rank,
                             "This process's number, 0 <= rank < size.")
      .def_property_readonly("size", &PyCommunicator::size, "How many ranks there are.")
      .def_property_readonly(
          "transport", [](const PyCommunicator& self) { return self.get()->transport(); },
          "How bytes travel: \"shm\", \"tcp\" or \"mpi\".")
      .def("all_reduce", &all_reduce, py::arg("array"), py::arg("op") = "sum",
           "Replaces the array, in place, by the sum (or \"min\", \"max\", \"avg\", \"prod\", "
           "\"and\", \"or\") of all ranks' arrays.\n\n"
           "The result is the same, bit by bit, on every rank.")
      .def("reduce_scatter", &reduce_scatter, py::arg("array"), py::arg("op") = "sum",
           "Takes an array of shape (size, ...) and returns entry `rank` of all ranks' sum.")
      .def("all_gather", &all_gather, py::arg("array"),
           "Returns the arrays of all ranks as one new array of shape (size, *array.shape).")
      .def(
          "all_to_all", &all_to_all, py::arg("array"),
          "Takes an array of shape (size, ...): entry r goes to rank r. Returns what came, entry s "
          "from rank s.")
      .def("gather", &gather, py::arg("array"), py::arg("root") = 0,
           "Returns the arrays of all ranks as one of shape (size, *array.shape) on rank `root`, "
           "None elsewhere.")
      .def("broadcast", &broadcast, py::arg("array"), py::arg("root") = 0,
           "Replaces the array, in place, by that of rank `root`.")
      .def("barrier", &barrier, "Returns when all ranks have called it.")
      .def("split", &split, py::arg("color"), py::arg("key") = 0,
           "Collective. A new communicator of the ranks with the same color, ordered by key, then "
           "by old rank.\n\n"
           "A color of None takes part but gets None.")
      .def("abort", &abort, py::arg("reason"),
           "Ends the group at once: the other ranks' calls raise PeerFailure with this reason. Any "
           "thread may call it.")
      .def("close", &PyCommunicator::close,
           "Leaves the group. Later calls raise InvalidArgument; closing twice is fine.")
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", &leave, "Closes; on an exception, first tells the other ranks.")
      .def("__repr__", &describe);
}

}  // namespace deepseek_train::python
