#include "deepseek_train/training/checkpointer.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"

namespace deepseek_train::training {
namespace {

constexpr std::string_view kPrefix = "checkpoint-";

std::optional<int64_t> step_of(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  int64_t step = 0;
  auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return step;
}

std::vector<int64_t> complete_steps(Env& env, const std::string& run_folder) {
  std::vector<int64_t> steps;
  if (!env.exists(run_folder)) return steps;
  for (const auto& name : env.list(run_folder)) {
    auto step = step_of(name);
    if (step && env.exists(join_path(join_path(run_folder, name), "COMPLETE")))
      steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

// What training changes: parameters that are trained (frozen ones come from the model that the run
// started with), and buffers, as the bias of a router is one.
std::vector<formats::NamedTensor> named_state(const torch::nn::Module& module) {
  std::vector<formats::NamedTensor> tensors;
  for (const auto& parameter : module.named_parameters())
    if (parameter.value().requires_grad()) tensors.push_back({parameter.key(), parameter.value()});
  for (const auto& buffer : module.named_buffers())
    tensors.push_back({buffer.key(), buffer.value()});
  return tensors;
}

nlohmann::ordered_json to_json(const LogEntry& entry) {
  return {{"step", entry.step},
          {"loss", entry.loss},
          {"learning_rate", entry.learning_rate},
          {"grad_norm", entry.grad_norm},
          {"tokens_per_second", entry.tokens_per_second}};
}

LogEntry log_entry_from(const nlohmann::json& json) {
  return {json.at("step"), json.at("loss"), json.at("learning_rate"), json.at("grad_norm"),
          json.at("tokens_per_second")};
}

std::string state_json(const TrainerState& state) {
  nlohmann::ordered_json json = {{"global_step", state.global_step},
                                 {"max_steps", state.max_steps}};
  auto& history = json["log_history"] = nlohmann::ordered_json::array();
  for (const auto& entry : state.log_history) history.push_back(to_json(entry));
  return json.dump(2) + "\n";
}

void load_state(torch::nn::Module& module, const formats::SafetensorsFile& file) {
  torch::NoGradGuard no_grad;
  auto wanted = named_state(module);
  DST_CHECK_AS(DataCorruption, file.tensors().size() == wanted.size(), file.path(), " has ",
               file.tensors().size(), " tensors, the model trains ", wanted.size(),
               "; is it of another model?");
  for (auto& [name, tensor] : wanted) {
    auto stored = formats::as_tensor(file.get(name));
    DST_CHECK_AS(DataCorruption, stored.sizes() == tensor.sizes(), file.path(), ": ", name,
                 " has shape ", stored.sizes().vec(), ", wanted ", tensor.sizes().vec());
    tensor.copy_(stored);
  }
}

}  // namespace

Checkpointer::Checkpointer(Env& env, std::string run_folder, int keep)
    : env_(env), run_folder_(std::move(run_folder)), keep_(keep) {
  DST_CHECK(keep >= 1, "save_total_limit is ", keep, ", wanted at least 1");
}

std::string Checkpointer::folder_of(int64_t step) const {
  return join_path(run_folder_, concat(kPrefix, step));
}

std::optional<int64_t> Checkpointer::latest() const {
  auto steps = complete_steps(env_, run_folder_);
  return steps.empty() ? std::nullopt : std::optional(steps.back());
}

void Checkpointer::save(const torch::nn::Module& module, const AdamW& optimizer,
                        const TrainerState& state) {
  const auto folder = folder_of(state.global_step);
  const auto temporary = folder + ".partial";
  env_.remove_all(temporary);
  try {
    formats::write_tensors(env_, join_path(temporary, "model.safetensors"), named_state(module),
                           {{"format", "pt"}});
    formats::write_tensors(env_, join_path(temporary, "optimizer.safetensors"),
                           optimizer.state_dict());
    write_text(env_, join_path(temporary, "sampler.json"), state.sampler);
    write_text(env_, join_path(temporary, "trainer_state.json"), state_json(state));
    write_text(env_, join_path(temporary, "COMPLETE"), "");
    env_.remove_all(folder);
    env_.rename(temporary, folder);
  } catch (...) {
    env_.remove_all(temporary);
    throw;
  }
  remove_old();
}

void Checkpointer::remove_old() {
  auto steps = complete_steps(env_, run_folder_);
  for (size_t i = 0; i + static_cast<size_t>(keep_) < steps.size(); ++i)
    env_.remove_all(folder_of(steps[i]));
}

TrainerState Checkpointer::load(int64_t step, torch::nn::Module& module, AdamW& optimizer) const {
  const auto folder = folder_of(step);
  formats::SafetensorsFile model(env_, join_path(folder, "model.safetensors"));
  formats::SafetensorsFile moments(env_, join_path(folder, "optimizer.safetensors"));
  const auto state_path = join_path(folder, "trainer_state.json");
  auto json =
      nlohmann::json::parse(read_text(env_, state_path), nullptr, /*allow_exceptions=*/false);
  DST_CHECK_AS(DataCorruption, json.is_object() && json.value("global_step", int64_t{-1}) == step,
               state_path, " does not hold the state of step ", step,
               "; remove the folder to go on from an older checkpoint");
  optimizer.load_state_dict(moments);
  load_state(module, model);
  TrainerState state{step,
                     json.value("max_steps", int64_t{0}),
                     read_text(env_, join_path(folder, "sampler.json")),
                     {}};
  for (const auto& entry : json.value("log_history", nlohmann::json::array()))
    state.log_history.push_back(log_entry_from(entry));
  return state;
}

}  // namespace deepseek_train::training
