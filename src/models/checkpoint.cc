#include "deepseek_train/models/checkpoint.h"

#include <unistd.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"
#include "src/models/checkpoint_readers.h"

namespace deepseek_train::models {

std::unique_ptr<Checkpoint> open_checkpoint(Env& env, const std::string& path) {
  DST_CHECK_AS(NotFound, env.exists(path), "there is no model at ", path,
               "; wanted a Hugging Face folder or a .gguf file");
  if (path.ends_with(".gguf")) return open_gguf_checkpoint(env, path);
  DST_CHECK_AS(NotFound, env.exists(join_path(path, "config.json")), path,
               " is no model: wanted a folder with config.json, or a .gguf file");
  return open_folder_checkpoint(env, path);
}

void check_vocabulary(const std::string& path, const text::Tokenizer& tokenizer,
                      const ModelConfig& config) {
  DST_CHECK(tokenizer.vocab_size() <= config.vocab_size, path, ": the tokenizer knows ",
            tokenizer.vocab_size(), " tokens, the model has embeddings for ", config.vocab_size,
            "; the two files do not belong together, or tokens were added without resizing the "
            "embedding");
}

namespace {

// Older checkpoints carry the table of rotary frequencies, which follows from config.json.
bool is_derived(const std::string& name) { return name.ends_with(".rotary_emb.inv_freq"); }

// V3 stores the embedding and the output projection once more in each multi-token prediction layer.
std::map<std::string, std::string> shared_copies(const ModelConfig& config) {
  std::map<std::string, std::string> copies;
  const auto head = config.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight";
  // A tied checkpoint may carry the shared matrix twice.
  if (config.tie_word_embeddings) copies["lm_head.weight"] = "model.embed_tokens.weight";
  for (int64_t i = 0; i < config.num_nextn_predict_layers; ++i) {
    auto prefix = concat("model.layers.", config.num_hidden_layers + i, ".");
    copies[prefix + "embed_tokens.weight"] = "model.embed_tokens.weight";
    copies[prefix + "shared_head.head.weight"] = head;
  }
  return copies;
}

// Parameters and buffers by name: what a checkpoint holds.
std::vector<std::pair<std::string, torch::Tensor>> named_state(const Transformer& model) {
  std::vector<std::pair<std::string, torch::Tensor>> state;
  for (const auto& item : model.named_parameters()) state.emplace_back(item.key(), item.value());
  for (const auto& item : model.named_buffers()) state.emplace_back(item.key(), item.value());
  return state;
}

// Of a user's own block put into a model that was trained without it.
bool belongs_to_new_block(const std::string& name, const ModelConfig& model,
                          const ModelConfig& stored) {
  return (model.attention_block != stored.attention_block &&
          name.find(".self_attn.") != std::string::npos) ||
         (model.mlp_block != stored.mlp_block && name.find(".mlp.") != std::string::npos);
}

// Of an expert that another rank of an expert-parallel model holds.
bool belongs_to_other_rank(const std::string& name, const Transformer& model) {
  constexpr std::string_view kExperts = ".mlp.experts.";
  const auto at = name.find(kExperts);
  if (!model.config().moe || at == std::string::npos) return false;
  const auto number = std::strtoll(name.c_str() + at + kExperts.size(), nullptr, 10);
  const auto [first, last] = model.local_experts();
  return number < model.config().moe->n_routed_experts && (number < first || number >= last);
}

void copy_weight(torch::Tensor& to, const torch::Tensor& stored, const std::string& name,
                 const std::string& path) {
  DST_CHECK_AS(DataCorruption, stored.sizes() == to.sizes(), path, ": tensor ", name, " has shape ",
               stored.sizes().vec(), ", config.json asks for ", to.sizes().vec());
  to.copy_(stored);
  // One pass over the values; a sum is finite only if all of them are (and its range is double's).
  DST_CHECK_AS(DataCorruption, std::isfinite(to.sum(at::kDouble).item<double>()), path, ": tensor ",
               name,
               " holds NaN or infinite values; take the checkpoint from its "
               "source again, or an earlier one of the training that wrote it");
}

}  // namespace

LoadReport load_weights(Transformer& model, const Checkpoint& checkpoint,
                        const std::set<std::string>& elsewhere) {
  torch::NoGradGuard no_grad;
  auto available = checkpoint.tensor_names();
  std::set<std::string> unused(available.begin(), available.end());
  std::erase_if(unused, is_derived);
  LoadReport report;
  for (auto& [name, tensor] : named_state(model)) {
    if (elsewhere.contains(name)) continue;
    if (!unused.contains(name) && belongs_to_new_block(name, model.config(), checkpoint.config())) {
      report.initialized.push_back(name);
      continue;
    }
    copy_weight(tensor, checkpoint.tensor(name), name, checkpoint.path());
    unused.erase(name);
  }
  for (const auto& [copy, original] : shared_copies(checkpoint.config())) {
    if (unused.erase(copy) == 0) continue;
    DST_CHECK_AS(DataCorruption, at::equal(checkpoint.tensor(copy), checkpoint.tensor(original)),
                 checkpoint.path(), ": tensor ", copy, " differs from ", original,
                 ", of which it should be a copy; models with two of them are not implemented");
  }
  for (const auto& name : elsewhere) unused.erase(name);
  std::erase_if(unused,
                [&](const std::string& name) { return belongs_to_other_rank(name, model); });
  std::erase_if(unused, [&](const std::string& name) {
    if (!belongs_to_new_block(name, model.config(), checkpoint.config())) return false;
    report.dropped.push_back(name);
    return true;
  });
  DST_CHECK_AS(DataCorruption, unused.empty(), checkpoint.path(), " has ", unused.size(),
               " tensors the model does not use, the first is ", *unused.begin());
  return report;
}

FolderFiles folder_files(const ModelConfig& config, const text::Tokenizer& tokenizer,
                         std::string_view dtype, std::string_view quantization_config) {
  nlohmann::ordered_json generation = {{"_from_model_config", true}};
  if (config.bos_token_id) generation["bos_token_id"] = *config.bos_token_id;
  if (config.eos_token_ids.size() == 1) generation["eos_token_id"] = config.eos_token_ids[0];
  if (config.eos_token_ids.size() > 1) generation["eos_token_id"] = config.eos_token_ids;
  if (config.pad_token_id) generation["pad_token_id"] = *config.pad_token_id;
  return {to_config_json(config, dtype, quantization_config), tokenizer.to_json(),
          tokenizer.config_json(), generation.dump(2) + "\n"};
}

void write_folder(Env& env, const std::string& folder, const FolderFiles& files,
                  const std::vector<formats::NamedTensor>& tensors) {
  auto temporary = concat(folder, ".partial-", ::getpid());
  try {
    formats::write_tensors(env, join_path(temporary, "model.safetensors"), tensors,
                           {{"format", "pt"}});
    write_text(env, join_path(temporary, "config.json"), files.config_json);
    write_text(env, join_path(temporary, "tokenizer.json"), files.tokenizer_json);
    write_text(env, join_path(temporary, "tokenizer_config.json"), files.tokenizer_config_json);
    write_text(env, join_path(temporary, "generation_config.json"), files.generation_config_json);
    env.remove_all(folder);
    env.rename(temporary, folder);
  } catch (...) {
    env.remove_all(temporary);
    throw;
  }
}

std::vector<formats::NamedTensor> named_weights(const Transformer& model, at::ScalarType dtype) {
  torch::NoGradGuard no_grad;
  const auto [first, last] = model.local_experts();
  DST_CHECK(!model.config().moe || last - first == model.config().moe->n_routed_experts,
            "this rank holds the experts ", first, " to ", last - 1,
            " only; gather them into a model without expert parallelism to export it");
  std::vector<formats::NamedTensor> tensors;
  std::map<std::string, torch::Tensor> by_name;
  for (const auto& item : model.named_parameters()) {
    tensors.push_back({item.key(), item.value().detach().to(dtype)});
    by_name[item.key()] = tensors.back().tensor;
  }
  // Buffers keep their type: a router's bias is float32 in every checkpoint.
  for (const auto& item : model.named_buffers()) tensors.push_back({item.key(), item.value()});
  for (const auto& [copy, original] : shared_copies(model.config()))
    if (copy != "lm_head.weight") tensors.push_back({copy, by_name.at(original)});
  return tensors;
}

}  // namespace deepseek_train::models
