#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"
#include "src/models/config_reader.h"

namespace deepseek_train::models {

ModelConfig model_config_from_gguf(const formats::GgufFile& file) {
  auto architecture = file.get_string("general.architecture");
  DST_CHECK(architecture == "llama", "unknown architecture: ", file.path(),
            " has general.architecture \"", architecture,
            "\"; implemented from GGUF: llama (take the Hugging Face folder for others)");
  for (const char* name : {"rope_freqs.weight", "blk.0.attn_q.bias"})
    DST_CHECK(file.find(name) == nullptr, file.path(), " has a tensor ", name,
              "; scaled rope and biases are not read from GGUF: take the Hugging Face folder");
  auto number = [&](const char* key) {
    return static_cast<int64_t>(file.get_uint(concat("llama.", key)));
  };
  auto token = [&](const char* key) -> std::optional<int64_t> {
    if (file.find_metadata(key) == nullptr) return std::nullopt;
    return static_cast<int64_t>(file.get_uint(key));
  };
  ModelConfig result;
  result.vocab_size = static_cast<int64_t>(file.get_strings("tokenizer.ggml.tokens").size());
  result.hidden_size = number("embedding_length");
  result.intermediate_size = number("feed_forward_length");
  result.num_hidden_layers = number("block_count");
  result.num_attention_heads = number("attention.head_count");
  DST_CHECK(result.num_attention_heads > 0, file.path(), ": llama.attention.head_count is zero");
  result.num_key_value_heads = file.find_metadata("llama.attention.head_count_kv")
                                   ? number("attention.head_count_kv")
                                   : result.num_attention_heads;
  result.head_dim = file.find_metadata("llama.rope.dimension_count")
                        ? number("rope.dimension_count")
                        : result.hidden_size / result.num_attention_heads;
  result.max_position_embeddings = number("context_length");
  // Written as float32; the decimal that was meant is the shortest one that rounds to it.
  auto decimal = [](double value) {
    return std::stod(nlohmann::json(static_cast<float>(value)).dump());
  };
  result.rms_norm_eps = decimal(file.get_float("llama.attention.layer_norm_rms_epsilon"));
  result.rope.rope_theta = file.find_metadata("llama.rope.freq_base")
                               ? decimal(file.get_float("llama.rope.freq_base"))
                               : 10000.0;
  result.tie_word_embeddings = file.find("output.weight") == nullptr;
  result.bos_token_id = token("tokenizer.ggml.bos_token_id");
  if (auto eos = token("tokenizer.ggml.eos_token_id")) result.eos_token_ids = {*eos};
  result.pad_token_id = token("tokenizer.ggml.padding_token_id");
  check_shape(result);
  return result;
}

}  // namespace deepseek_train::models
