// For the parity tests: what our model makes of token ids, as one safetensors file.
// usage: parity_tool MODEL IDS.safetensors OUTPUT.safetensors [fast] [bf16] [gradients] [mtp]
//        [generate=N] [export=FOLDER] [adapter=FOLDER] [merge] [save_adapter=FOLDER]
// IDS holds input_ids [B, T] int64. OUTPUT holds float32 logits [B, T, V] and loss; `gradients`
// adds grad.NAME for every parameter; `mtp` the logits of the first multi-token prediction layer,
// and with `gradients` those of its loss; `export=FOLDER` writes the model there in float32;
// `generate` the greedy continuation by the cache; a mixture of experts its loads. An adapter is
// loaded before all that (then merged), and saved again under another name.
#include <iostream>
#include <optional>
#include <set>
#include <string>

#include "deepseek_train/core/env.h"
#include "deepseek_train/formats/torch/tensor_file.h"
#include "deepseek_train/models/generate.h"
#include "deepseek_train/tuning/model_loader.h"
#include "deepseek_train/tuning/peft_adapter.h"

namespace {

using namespace deepseek_train;
using Tensors = std::vector<formats::NamedTensor>;

// Mean over all predicted tokens, in float32.
torch::Tensor next_token_loss(const torch::Tensor& logits, const torch::Tensor& ids) {
  return at::cross_entropy_loss(logits.slice(1, 0, -1).flatten(0, 1).to(at::kFloat),
                                ids.slice(1, 1).flatten());
}

void add_gradients(models::Transformer& model, const torch::Tensor& ids, bool mtp, Tensors& out) {
  auto hidden = model.hidden_states(ids);
  // Place i of the multi-token prediction predicts token i + 2.
  auto loss =
      mtp ? next_token_loss(model.logits(model.mtp_hidden_states(0, hidden, ids)), ids.slice(1, 1))
          : next_token_loss(model.logits(hidden), ids);
  loss.backward();
  for (const auto& item : model.named_parameters())
    if (item.value().grad().defined())
      out.push_back({"grad." + item.key(), item.value().grad().to(at::kFloat)});
}

void add_logits(models::Transformer& model, const torch::Tensor& ids, bool mtp, Tensors& out) {
  torch::InferenceMode inference;
  models::RoutingRecord routing;
  auto hidden = model.hidden_states(ids, &routing);
  auto logits = model.logits(hidden);
  out.push_back({"logits", logits.to(at::kFloat)});
  out.push_back({"loss", next_token_loss(logits, ids)});
  size_t i = 0;
  for (const auto& [layer, load] : routing.loads)
    out.push_back({"loads." + std::to_string(i++), load});
  if (mtp)
    out.push_back(
        {"mtp_logits", model.logits(model.mtp_hidden_states(0, hidden, ids)).to(at::kFloat)});
}

void add_generated(models::Transformer& model, const torch::Tensor& ids, int64_t count,
                   Tensors& out) {
  std::vector<std::vector<int32_t>> prompts;
  for (int64_t b = 0; b < ids.size(0); ++b) {
    auto row = ids[b].to(at::kInt).contiguous();
    prompts.emplace_back(row.const_data_ptr<int32_t>(),
                         row.const_data_ptr<int32_t>() + row.numel());
  }
  auto rows = models::generate(model, prompts, {.max_new_tokens = count});
  std::vector<torch::Tensor> tensors;
  for (const auto& row : rows) tensors.push_back(torch::tensor(row, at::kInt));
  out.push_back({"generated", torch::stack(tensors).to(at::kLong)});
}

// The value of the flag KEY=VALUE; empty without.
std::string value_of(const std::set<std::string>& flags, const std::string& key) {
  for (const auto& flag : flags)
    if (flag.starts_with(key + "=")) return flag.substr(key.size() + 1);
  return {};
}

void use_adapter(tuning::LoraAdapters& adapters, const std::string& folder,
                 const std::set<std::string>& flags) {
  tuning::load_adapter(posix_env(), folder, adapters, "default");
  if (auto copy = value_of(flags, "save_adapter"); !copy.empty())
    tuning::save_adapter(posix_env(), copy, adapters, "default");
  if (flags.contains("merge")) adapters.merge();
}

}  // namespace

int main(int argc, char** argv) try {
  std::set<std::string> flags(argv + 4, argv + argc);
  tuning::LoadModelOptions options;
  options.numerics =
      flags.contains("fast") ? models::Numerics::kFast : models::Numerics::kReference;
  if (flags.contains("bf16")) options.compute_dtype = at::kBFloat16;
  auto loaded = tuning::load_model(posix_env(), argv[1], options);
  std::optional<tuning::LoraAdapters> adapters;
  if (auto folder = value_of(flags, "adapter"); !folder.empty())
    use_adapter(adapters.emplace(loaded.model), folder, flags);
  formats::SafetensorsFile file(posix_env(), argv[2]);
  auto ids = formats::as_tensor(file.get("input_ids")).clone();
  Tensors out;
  add_logits(*loaded.model, ids, flags.contains("mtp"), out);
  if (flags.contains("gradients")) add_gradients(*loaded.model, ids, flags.contains("mtp"), out);
  if (auto count = value_of(flags, "generate"); !count.empty())
    add_generated(*loaded.model, ids, std::stoll(count), out);
  if (auto folder = value_of(flags, "export"); !folder.empty())
    models::write_folder(
        posix_env(), folder,
        models::folder_files(loaded.model->config(), loaded.checkpoint->tokenizer(), "float32"),
        models::named_weights(*loaded.model, at::kFloat));
  formats::write_tensors(posix_env(), argv[3], out);
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
