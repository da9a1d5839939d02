// The shape of a decoder, read from the checkpoint and never from a family's default.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "deepseek_train/formats/gguf.h"

namespace deepseek_train::models {

enum class Architecture { kLlama, kQwen2, kQwen3, kDeepseekV2, kDeepseekV3 };

// Hugging Face's model_type: "llama", "qwen2", "qwen3", "deepseek_v2", "deepseek_v3".
std::string_view model_type(Architecture architecture);

// Rotary positions (Su et al. 2021, arXiv 2104.09864). Field names are Hugging Face's.
struct RopeParameters {
  std::string rope_type = "default";  // default, linear, llama3, yarn
  double rope_theta = 0;
  double factor = 1;
  int64_t original_max_position_embeddings = 0;
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  double beta_fast = 32, beta_slow = 1;              // yarn (Peng et al. 2023, arXiv 2309.00071)
  bool truncate = true;
  std::optional<double> attention_factor, mscale, mscale_all_dim;

  bool operator==(const RopeParameters&) const = default;
};

// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434).
struct MlaConfig {
  std::optional<int64_t> q_lora_rank;  // none: q_proj projects directly, as in V2-Lite
  int64_t kv_lora_rank = 0;
  int64_t qk_nope_head_dim = 0;
  int64_t qk_rope_head_dim = 0;
  int64_t v_head_dim = 0;
  bool rope_interleave = true;

  int64_t qk_head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
  bool operator==(const MlaConfig&) const = default;
};

// How a router scores and chooses. V2: softmax over all experts. V3: sigmoid, chosen by the score
// plus a bias, weighted without it (arXiv 2412.19437, section 2.1.2).
enum class RouterKind { kSoftmax, kSigmoidBiased };

struct MoeConfig {
  RouterKind router = RouterKind::kSoftmax;
  int64_t n_routed_experts = 0;
  int64_t n_shared_experts = 0;
  int64_t num_experts_per_tok = 0;
  int64_t moe_intermediate_size = 0;
  int64_t first_k_dense_replace = 0;
  int64_t n_group = 1, topk_group = 1;  // experts are chosen from the best topk_group groups
  bool norm_topk_prob = false;
  double routed_scaling_factor = 1;
  double aux_loss_alpha = 0;  // released V3 configs omit it; the paper's value is 1e-4

  bool operator==(const MoeConfig&) const = default;
};

struct ModelConfig {
  Architecture architecture = Architecture::kLlama;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;  // of a rotated query head; with MLA the rotated part's size
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0;
  RopeParameters rope;
  bool tie_word_embeddings = false;
  bool attention_bias = false;         // on q, k, v (with MLA on the two down-projections)
  bool attention_output_bias = false;  // on o
  bool mlp_bias = false;
  bool qk_norm = false;  // RMSNorm over each head of q and k, before the rotation
  // Tokens a query sees, itself included; of the layers from max_window_layers on.
  std::optional<int64_t> sliding_window;
  int64_t max_window_layers = 0;
  std::optional<MlaConfig> mla;
  std::optional<MoeConfig> moe;
  // Multi-token prediction layers that the checkpoint holds behind the last one (V3).
  int64_t num_nextn_predict_layers = 0;
  std::optional<int64_t> bos_token_id;
  std::vector<int64_t> eos_token_ids;
  std::optional<int64_t> pad_token_id;
  // Blocks of the user's own, by their names in the BlockRegistry; empty for the built-in ones.
  std::string attention_block, mlp_block;
  // Keys of config.json that mean nothing here, a JSON object's text: written back at export.
  std::string other_keys = "{}";

  bool uses_window(int64_t layer) const { return sliding_window && layer >= max_window_layers; }
  bool uses_experts(int64_t layer) const { return moe && layer >= moe->first_k_dense_replace; }
  bool operator==(const ModelConfig&) const = default;
};

// Reads config.json, both generations of its rope keys. Throws InvalidArgument naming what cannot
// be run: another architecture, a rope type, an activation; and missing or impossible values.
ModelConfig model_config_from_json(std::string_view config_json);

// Reads the `llama.*` keys; tied when the file has no output.weight. Throws InvalidArgument for
// another architecture.
ModelConfig model_config_from_gguf(const formats::GgufFile& file);

// config.json as Hugging Face writes it, with both generations of the rope keys. `dtype` is
// "float32" or "bfloat16"; `quantization_config` is a JSON object's text or empty.
std::string to_config_json(const ModelConfig& config, std::string_view dtype,
                           std::string_view quantization_config = {});

}  // namespace deepseek_train::models
