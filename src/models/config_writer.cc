#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"
#include "deepseek_train/models/model_config.h"

namespace deepseek_train::models {
namespace {

using nlohmann::ordered_json;

const char* class_name(Architecture architecture) {
  switch (architecture) {
    case Architecture::kLlama: return "LlamaForCausalLM";
    case Architecture::kQwen2: return "Qwen2ForCausalLM";
    case Architecture::kQwen3: return "Qwen3ForCausalLM";
    case Architecture::kDeepseekV2: return "DeepseekV2ForCausalLM";
    case Architecture::kDeepseekV3: return "DeepseekV3ForCausalLM";
  }
  throw Internal("an Architecture without a class");
}

// The values that make up the scaling; rope_theta stands where each generation has it.
ordered_json scaling_of(const RopeParameters& rope) {
  ordered_json out = {{"rope_type", rope.rope_type}};
  if (rope.rope_type == "default") return out;
  out["factor"] = rope.factor;
  if (rope.rope_type == "linear") return out;
  out["original_max_position_embeddings"] = rope.original_max_position_embeddings;
  if (rope.rope_type == "llama3") {
    out["low_freq_factor"] = rope.low_freq_factor;
    out["high_freq_factor"] = rope.high_freq_factor;
    return out;
  }
  out["beta_fast"] = rope.beta_fast;
  out["beta_slow"] = rope.beta_slow;
  if (!rope.truncate) out["truncate"] = false;
  for (auto [key, value] : {std::pair{"attention_factor", rope.attention_factor},
                            {"mscale", rope.mscale},
                            {"mscale_all_dim", rope.mscale_all_dim}})
    if (value) out[key] = *value;
  return out;
}

// Both generations of the keys, for old and new readers.
void put_rope(ordered_json& out, const RopeParameters& rope) {
  auto scaling = scaling_of(rope);
  out["rope_theta"] = rope.rope_theta;
  out["rope_scaling"] = rope.rope_type == "default" ? ordered_json() : scaling;
  if (rope.rope_type != "default") out["rope_scaling"]["type"] = rope.rope_type;
  scaling["rope_theta"] = rope.rope_theta;
  out["rope_parameters"] = scaling;
}

void put_mla(ordered_json& out, const MlaConfig& mla) {
  out["q_lora_rank"] = mla.q_lora_rank ? ordered_json(*mla.q_lora_rank) : ordered_json();
  out["kv_lora_rank"] = mla.kv_lora_rank;
  out["qk_nope_head_dim"] = mla.qk_nope_head_dim;
  out["qk_rope_head_dim"] = mla.qk_rope_head_dim;
  out["v_head_dim"] = mla.v_head_dim;
  out["rope_interleave"] = mla.rope_interleave;
}

void put_moe(ordered_json& out, const MoeConfig& moe) {
  const bool grouped = moe.n_group > 1;
  const bool v3 = moe.router == RouterKind::kSigmoidBiased;
  out["scoring_func"] = v3 ? "sigmoid" : "softmax";
  out["topk_method"] = v3 ? "noaux_tc" : grouped ? "group_limited_greedy" : "greedy";
  out["n_routed_experts"] = moe.n_routed_experts;
  out["n_shared_experts"] = moe.n_shared_experts;
  out["num_experts_per_tok"] = moe.num_experts_per_tok;
  out["moe_intermediate_size"] = moe.moe_intermediate_size;
  out["first_k_dense_replace"] = moe.first_k_dense_replace;
  out["moe_layer_freq"] = 1;
  out["n_group"] = moe.n_group;
  out["topk_group"] = moe.topk_group;
  out["norm_topk_prob"] = moe.norm_topk_prob;
  out["routed_scaling_factor"] = moe.routed_scaling_factor;
  if (moe.aux_loss_alpha > 0) out["aux_loss_alpha"] = moe.aux_loss_alpha;
}

void put_attention(ordered_json& out, const ModelConfig& config) {
  if (config.architecture != Architecture::kQwen2) out["attention_bias"] = config.attention_bias;
  if (config.architecture == Architecture::kLlama ||
      config.architecture == Architecture::kDeepseekV2)
    out["mlp_bias"] = config.mlp_bias;
  if (config.architecture == Architecture::kQwen2 || config.architecture == Architecture::kQwen3) {
    out["use_sliding_window"] = config.sliding_window.has_value();
    if (config.sliding_window) {
      out["sliding_window"] = *config.sliding_window;
      out["max_window_layers"] = config.max_window_layers;
    }
  }
  // V2 and V3 derive it; transformers' classes have their own meaning for the key.
  if (!config.mla) out["head_dim"] = config.head_dim;
}

void put_tokens(ordered_json& out, const ModelConfig& config) {
  if (config.bos_token_id) out["bos_token_id"] = *config.bos_token_id;
  if (config.eos_token_ids.size() == 1) out["eos_token_id"] = config.eos_token_ids[0];
  if (config.eos_token_ids.size() > 1) out["eos_token_id"] = config.eos_token_ids;
  if (config.pad_token_id) out["pad_token_id"] = *config.pad_token_id;
}

}  // namespace

std::string to_config_json(const ModelConfig& config, std::string_view dtype,
                           std::string_view quantization_config) {
  auto out = ordered_json::parse(config.other_keys);
  out["architectures"] = {class_name(config.architecture)};
  out["model_type"] = model_type(config.architecture);
  out["hidden_act"] = "silu";
  put_tokens(out, config);
  out["hidden_size"] = config.hidden_size;
  out["intermediate_size"] = config.intermediate_size;
  out["max_position_embeddings"] = config.max_position_embeddings;
  out["num_attention_heads"] = config.num_attention_heads;
  out["num_hidden_layers"] = config.num_hidden_layers;
  out["num_key_value_heads"] = config.num_key_value_heads;
  out["rms_norm_eps"] = config.rms_norm_eps;
  out["tie_word_embeddings"] = config.tie_word_embeddings;
  out["vocab_size"] = config.vocab_size;
  put_attention(out, config);
  put_rope(out, config.rope);
  if (config.mla) put_mla(out, *config.mla);
  if (config.moe) put_moe(out, *config.moe);
  if (config.architecture == Architecture::kDeepseekV3)
    out["num_nextn_predict_layers"] = config.num_nextn_predict_layers;
  if (!config.attention_block.empty()) out["dst_attention_block"] = config.attention_block;
  if (!config.mlp_block.empty()) out["dst_mlp_block"] = config.mlp_block;
  out["torch_dtype"] = dtype;
  out["dtype"] = dtype;
  out["use_cache"] = true;
  if (!quantization_config.empty())
    out["quantization_config"] = ordered_json::parse(quantization_config);
  return out.dump(2) + "\n";
}

}  // namespace deepseek_train::models
