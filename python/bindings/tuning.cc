#include <ATen/Parallel.h>
#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "deepseek_train/core/credentials.h"
#include "deepseek_train/core/env.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/tuning/job.h"
#include "deepseek_train/tuning/run_log.h"
#include "python/bindings/bindings.h"

namespace py = pybind11;

namespace deepseek_train::python {
namespace {

// Logs every step's values, on the rank that has a log, then hands them to Python.
class CallbackSink final : public MetricsSink {
 public:
  CallbackSink(std::unique_ptr<tuning::RunLog> log, const py::function& on_step)
      : log_(std::move(log)), on_step_(on_step) {}
  void record(int64_t step, const MetricValues& values) override {
    if (log_) log_->record(step, values);
    py::gil_scoped_acquire acquire;
    py::dict dict;
    for (const auto& [name, value] : values) dict[py::str(name)] = value;
    on_step_(step, dict);
  }

 private:
  std::unique_ptr<tuning::RunLog> log_;
  const py::function& on_step_;  // borrowed: a copy would need the GIL
};

// Asks Python between steps whether to stop. Ctrl-C raises inside PyErr_CheckSignals; the exception
// waits here until the trainer has saved.
class StopCondition {
 public:
  explicit StopCondition(py::function stop_requested)
      : stop_requested_(std::move(stop_requested)) {}
  bool operator()() {
    py::gil_scoped_acquire acquire;
    if (interrupt_) return true;
    if (PyErr_CheckSignals() != 0) {
      interrupt_.emplace();
      return true;
    }
    return stop_requested_().cast<bool>();
  }
  // Call with the GIL held.
  void rethrow() {
    if (interrupt_) throw std::move(*interrupt_);
  }

 private:
  py::function stop_requested_;
  std::optional<py::error_already_set> interrupt_;
};

// Ranks that share a host share its cores, unless the user has chosen. A process of its own keeps
// torch's setting.
void share_cores(const collectives::LaunchInfo& launch) {
  if (launch.local_size == 1 || std::getenv("OMP_NUM_THREADS")) return;
  at::set_num_threads(
      std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / launch.local_size));
}

// A recipe and the ranks that carry it out.
class TuningJob {
 public:
  explicit TuningJob(const std::string& recipe_path)
      : recipe_(tuning::load_recipe(posix_env(), recipe_path)) {
    collectives::CommunicatorOptions options;
    options.launch = collectives::launch_info_from_environment();
    options.backend = recipe_.communication.backend;
    options.timeout = std::chrono::seconds(recipe_.communication.timeout_seconds);
    options.insecure_network = recipe_.communication.insecure_network;
    if (!recipe_.communication.credentials.empty())
      options.identity = {
          .credentials = folder_credentials(posix_env(), recipe_.communication.credentials,
                                            concat("rank", options.launch.rank)),
          .job = recipe_.communication.job};
    share_cores(options.launch);
    communicator_ = collectives::make_communicator(options);
  }
  ~TuningJob() {
    py::gil_scoped_release release;
    communicator_.reset();
  }

  int rank() const { return communicator_->rank(); }
  int size() const { return communicator_->size(); }
  std::string run_folder() const { return recipe_.run_folder(); }

  bool train(const py::function& on_step, py::function stop_requested) {
    StopCondition stop(std::move(stop_requested));
    bool finished = false;
    {
      py::gil_scoped_release release;
      finished = train_or_tell_others(on_step, stop);
    }
    stop.rethrow();
    return finished;
  }

 private:
  // The run's log on the first rank, nothing on the others.
  std::unique_ptr<tuning::RunLog> open_log() const {
    if (communicator_->rank() != 0) return nullptr;
    posix_env().make_folders(recipe_.run_folder());
    return std::make_unique<tuning::RunLog>(join_path(recipe_.run_folder(), "log.jsonl"));
  }

  bool train_or_tell_others(const py::function& on_step, StopCondition& stop) {
    try {
      CallbackSink metrics(open_log(), on_step);
      return tuning::train({recipe_, posix_env(), *communicator_, metrics, std::ref(stop)});
    } catch (const PeerFailure&) {
      throw;
    } catch (const std::exception& error) {
      communicator_->abort(error.what());
      throw;
    }
  }

  tuning::Recipe recipe_;
  std::unique_ptr<collectives::Communicator> communicator_;
};

}  // namespace

void bind_tuning(py::module_& module) {
  py::class_<TuningJob>(module, "TuningJob",
                        "A recipe and the ranks that carry it out; train() is the way to use it.")
      .def(py::init<const std::string&>(), py::arg("recipe_path"),
           py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("rank", &TuningJob::rank)
      .def_property_readonly("size", &TuningJob::size)
      .def_property_readonly("run_folder", &TuningJob::run_folder)
      .def("train", &TuningJob::train, py::arg("on_step"), py::arg("stop_requested"),
           "Prepares, trains, exports. False if stop_requested() said to stop; then a checkpoint "
           "was saved.\n\n"
           "on_step(step, values) is called after every step.");
}

}  // namespace deepseek_train::python
