// The shape of a Llama decoder, read from the checkpoint and never from a family's default.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "deepseek_train/formats/gguf.h"

namespace deepseek_train::models {

// Field names are Hugging Face's.
struct LlamaConfig {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0;
  double rope_theta = 0;
  bool tie_word_embeddings = false;
  std::optional<int64_t> bos_token_id;
  std::optional<int64_t> eos_token_id;
  std::optional<int64_t> pad_token_id;

  bool operator==(const LlamaConfig&) const = default;
};

// Reads config.json, both generations of its rope keys. Throws InvalidArgument naming what cannot
// be run: another architecture, a rope type, an activation, biases.
LlamaConfig llama_config_from_json(std::string_view config_json);

// Reads the `llama.*` keys; `tied` when the file has no output.weight. Throws InvalidArgument for
// another architecture.
LlamaConfig llama_config_from_gguf(const formats::GgufFile& file);

// config.json as Hugging Face writes it. `dtype` is "float32" or "bfloat16"; `quantization_config`
// is a JSON object's text or empty.
std::string to_config_json(const LlamaConfig& config, std::string_view dtype,
                           std::string_view quantization_config = {});

}  // namespace deepseek_train::models
