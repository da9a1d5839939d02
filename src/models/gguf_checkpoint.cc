// GGUF keeps Llama's q and k rows permuted: the two rotary halves of each head interleaved. Names:
// ggml docs/gguf.md.
#include <map>

#include "deepseek_train/core/error.h"
#include "deepseek_train/formats/gguf.h"
#include "src/models/checkpoint_readers.h"

namespace deepseek_train::models {
namespace {

text::BpeVocabulary vocabulary_of(const formats::GgufFile& file) {
  auto model = file.get_string("tokenizer.ggml.model");
  DST_CHECK(model == "gpt2", file.path(), " has a tokenizer of kind \"", model,
            "\"; implemented: gpt2 (byte-level BPE)");
  text::BpeVocabulary vocabulary;
  vocabulary.tokens = file.get_strings("tokenizer.ggml.tokens");
  for (int64_t type : file.get_ints("tokenizer.ggml.token_type"))
    vocabulary.token_types.push_back(static_cast<int>(type));
  vocabulary.merges = file.get_strings("tokenizer.ggml.merges");
  vocabulary.pre = file.get_string("tokenizer.ggml.pre");
  auto token = [&](const char* key) -> std::optional<int32_t> {
    if (file.find_metadata(key) == nullptr) return std::nullopt;
    return static_cast<int32_t>(file.get_uint(key));
  };
  vocabulary.bos_id = token("tokenizer.ggml.bos_token_id");
  vocabulary.eos_id = token("tokenizer.ggml.eos_token_id");
  vocabulary.pad_id = token("tokenizer.ggml.padding_token_id");
  if (file.find_metadata("tokenizer.ggml.add_bos_token"))
    vocabulary.add_bos = file.get_bool("tokenizer.ggml.add_bos_token");
  if (file.find_metadata("tokenizer.chat_template"))
    vocabulary.chat_template = file.get_string("tokenizer.chat_template");
  return vocabulary;
}

// Hugging Face's name for each tensor of the file.
std::map<std::string, std::string> gguf_names(const ModelConfig& config) {
  std::map<std::string, std::string> names = {{"model.embed_tokens.weight", "token_embd.weight"},
                                              {"model.norm.weight", "output_norm.weight"}};
  if (!config.tie_word_embeddings) names["lm_head.weight"] = "output.weight";
  static constexpr std::pair<const char*, const char*> kLayerNames[] = {
      {"self_attn.q_proj", "attn_q"},          {"self_attn.k_proj", "attn_k"},
      {"self_attn.v_proj", "attn_v"},          {"self_attn.o_proj", "attn_output"},
      {"mlp.gate_proj", "ffn_gate"},           {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"},           {"input_layernorm", "attn_norm"},
      {"post_attention_layernorm", "ffn_norm"}};
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer)
    for (auto [ours, theirs] : kLayerNames)
      names[concat("model.layers.", layer, ".", ours, ".weight")] =
          concat("blk.", layer, ".", theirs, ".weight");
  return names;
}

class GgufCheckpoint final : public Checkpoint {
 public:
  GgufCheckpoint(Env& env, const std::string& path)
      : file_(env, path),
        config_(model_config_from_gguf(file_)),
        tokenizer_(text::Tokenizer::from_vocabulary(vocabulary_of(file_))),
        names_(gguf_names(config_)) {
    check_vocabulary(path, tokenizer_, config_);
    for (const auto& tensor : file_.tensors())
      DST_CHECK(is_known(tensor.name), path, " has a tensor ", tensor.name,
                " that a Llama model does not use");
  }

  const std::string& path() const override { return file_.path(); }
  const ModelConfig& config() const override { return config_; }
  const text::Tokenizer& tokenizer() const override { return tokenizer_; }
  const std::string& quantization_config() const override { return no_quantization_; }
  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names;
    for (const auto& [name, unused] : names_) names.push_back(name);
    return names;
  }

  torch::Tensor tensor(const std::string& name) const override {
    auto found = names_.find(name);
    DST_CHECK_AS(NotFound, found != names_.end(), path(), " has no tensor ", name);
    const auto& stored = file_.get(found->second);
    auto values = torch::empty(stored.shape, at::kFloat);
    formats::dequantize(stored, {values.data_ptr<float>(), static_cast<size_t>(values.numel())});
    if (name.ends_with("q_proj.weight")) return unpermute(values, config_.num_attention_heads);
    if (name.ends_with("k_proj.weight")) return unpermute(values, config_.num_key_value_heads);
    return values;
  }

 private:
  bool is_known(const std::string& stored) const {
    for (const auto& [unused, name] : names_)
      if (name == stored) return true;
    return false;
  }
  // [heads * (E/2 pairs) * 2, D] -> [heads * 2 halves * E/2, D]
  static torch::Tensor unpermute(const torch::Tensor& rows, int64_t heads) {
    DST_CHECK_AS(DataCorruption, rows.dim() == 2 && rows.size(0) % (2 * heads) == 0,
                 "a projection of shape [", rows.size(0), ", ...] cannot belong to ", heads,
                 " heads");
    return rows.view({heads, rows.size(0) / heads / 2, 2, rows.size(1)})
        .transpose(1, 2)
        .reshape(rows.sizes());
  }

  formats::GgufFile file_;
  ModelConfig config_;
  text::Tokenizer tokenizer_;
  std::map<std::string, std::string> names_;
  std::string no_quantization_;
};

}  // namespace

std::unique_ptr<Checkpoint> open_gguf_checkpoint(Env& env, const std::string& path) {
  return std::make_unique<GgufCheckpoint>(env, path);
}

}  // namespace deepseek_train::models
