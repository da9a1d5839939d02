// The shape of a Llama that a test runs in milliseconds, with all that a large one has: several
// layers, and query heads that share a key-value head.
#pragma once

#include "deepseek_train/models/model_config.h"

namespace deepseek_train::test_support {

inline models::ModelConfig tiny_llama_config(int64_t vocab_size) {
  models::ModelConfig config;
  config.vocab_size = vocab_size;
  config.hidden_size = 16;
  config.intermediate_size = 24;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 2;
  config.num_key_value_heads = 1;
  config.head_dim = 8;
  config.max_position_embeddings = 64;
  config.rms_norm_eps = 1e-5;
  config.rope.rope_theta = 10000;
  config.tie_word_embeddings = true;
  return config;
}

}  // namespace deepseek_train::test_support
