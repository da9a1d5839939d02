#include "deepseek_train/models/llama_config.h"

#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"

namespace deepseek_train::models {
namespace {

using nlohmann::json;

template <typename T>
T required(const json& config, const char* key) {
  auto found = config.find(key);
  DST_CHECK(found != config.end() && !found->is_null(), "config.json has no \"", key,
            "\", which a Llama model needs; is the file complete?");
  try {
    return found->get<T>();
  } catch (const json::exception&) {
    throw InvalidArgument(
        concat("config.json: \"", key, "\" is ", found->dump(), ", wanted a number"));
  }
}

template <typename T>
T optional_or(const json& config, const char* key, T otherwise) {
  auto found = config.find(key);
  return found == config.end() || found->is_null() ? otherwise : required<T>(config, key);
}

std::optional<int64_t> optional_id(const json& config, const char* key) {
  auto found = config.find(key);
  if (found == config.end() || found->is_null()) return std::nullopt;
  return found->is_array() ? found->at(0).get<int64_t>() : found->get<int64_t>();
}

// The newer generation keeps rope's values in rope_parameters, the older has rope_theta and
// rope_scaling.
double rope_theta_of(const json& config) {
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    auto rope = config.find(key);
    if (rope == config.end() || rope->is_null()) continue;
    auto type = rope->value("rope_type", rope->value("type", std::string("default")));
    DST_CHECK(type == "default", "config.json asks for rope type \"", type,
              "\"; only \"default\" is implemented so far");
    if (rope->contains("rope_theta")) return required<double>(*rope, "rope_theta");
  }
  return required<double>(config, "rope_theta");
}

void refuse_unknown(const json& config) {
  auto type = config.value("model_type", std::string("(none)"));
  DST_CHECK(type == "llama", "unknown architecture: config.json has model_type \"", type,
            "\"; implemented: llama");
  auto activation = config.value("hidden_act", std::string("silu"));
  DST_CHECK(activation == "silu", "config.json has hidden_act \"", activation,
            "\"; implemented: silu");
  for (const char* key : {"attention_bias", "mlp_bias"})
    DST_CHECK(!config.value(key, false), "config.json sets ", key,
              "; Llama models with biases are not implemented");
}

void check_shape(const LlamaConfig& c) {
  for (auto [name, value] : {std::pair{"vocab_size", c.vocab_size},
                             {"hidden_size", c.hidden_size},
                             {"intermediate_size", c.intermediate_size},
                             {"num_hidden_layers", c.num_hidden_layers},
                             {"num_attention_heads", c.num_attention_heads},
                             {"head_dim", c.head_dim},
                             {"num_key_value_heads", c.num_key_value_heads},
                             {"max_position_embeddings", c.max_position_embeddings}})
    DST_CHECK(value > 0 && value < (int64_t{1} << 31), "the model's ", name, " is ", value,
              ", which cannot be");
  DST_CHECK(c.num_attention_heads % c.num_key_value_heads == 0, "the model has ",
            c.num_attention_heads, " attention heads for ", c.num_key_value_heads,
            " key-value heads; the first must be a multiple of the second");
  DST_CHECK(c.head_dim % 2 == 0, "the model's head_dim is ", c.head_dim,
            "; rotary positions need an even one");
  DST_CHECK(c.rope_theta > 0 && c.rms_norm_eps > 0, "the model has rope_theta ", c.rope_theta,
            " and rms_norm_eps ", c.rms_norm_eps, "; both must be above zero");
}

}  // namespace

LlamaConfig llama_config_from_json(std::string_view config_json) {
  json config = json::parse(config_json, nullptr, /*allow_exceptions=*/false);
  DST_CHECK_AS(DataCorruption, config.is_object(), "config.json is not a JSON object");
  refuse_unknown(config);
  LlamaConfig result;
  result.vocab_size = required<int64_t>(config, "vocab_size");
  result.hidden_size = required<int64_t>(config, "hidden_size");
  result.intermediate_size = required<int64_t>(config, "intermediate_size");
  result.num_hidden_layers = required<int64_t>(config, "num_hidden_layers");
  result.num_attention_heads = required<int64_t>(config, "num_attention_heads");
  DST_CHECK(result.num_attention_heads > 0, "config.json: num_attention_heads is ",
            result.num_attention_heads);
  result.num_key_value_heads =
      optional_or(config, "num_key_value_heads", result.num_attention_heads);
  result.head_dim =
      optional_or(config, "head_dim", result.hidden_size / result.num_attention_heads);
  result.max_position_embeddings = required<int64_t>(config, "max_position_embeddings");
  result.rms_norm_eps = required<double>(config, "rms_norm_eps");
  result.rope_theta = rope_theta_of(config);
  result.tie_word_embeddings = config.value("tie_word_embeddings", false);
  result.bos_token_id = optional_id(config, "bos_token_id");
  result.eos_token_id = optional_id(config, "eos_token_id");
  result.pad_token_id = optional_id(config, "pad_token_id");
  check_shape(result);
  return result;
}

LlamaConfig llama_config_from_gguf(const formats::GgufFile& file) {
  auto architecture = file.get_string("general.architecture");
  DST_CHECK(architecture == "llama", "unknown architecture: ", file.path(),
            " has general.architecture \"", architecture, "\"; implemented: llama");
  for (const char* name : {"rope_freqs.weight", "blk.0.attn_q.bias"})
    DST_CHECK(file.find(name) == nullptr, file.path(), " has a tensor ", name,
              "; scaled rope and biases are not implemented");
  auto number = [&](const char* key) {
    return static_cast<int64_t>(file.get_uint(concat("llama.", key)));
  };
  auto token = [&](const char* key) -> std::optional<int64_t> {
    if (file.find_metadata(key) == nullptr) return std::nullopt;
    return static_cast<int64_t>(file.get_uint(key));
  };
  LlamaConfig result;
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
  auto decimal = [](double value) { return std::stod(json(static_cast<float>(value)).dump()); };
  result.rms_norm_eps = decimal(file.get_float("llama.attention.layer_norm_rms_epsilon"));
  result.rope_theta = file.find_metadata("llama.rope.freq_base")
                          ? decimal(file.get_float("llama.rope.freq_base"))
                          : 10000.0;
  result.tie_word_embeddings = file.find("output.weight") == nullptr;
  result.bos_token_id = token("tokenizer.ggml.bos_token_id");
  result.eos_token_id = token("tokenizer.ggml.eos_token_id");
  result.pad_token_id = token("tokenizer.ggml.padding_token_id");
  check_shape(result);
  return result;
}

std::string to_config_json(const LlamaConfig& config, std::string_view dtype,
                           std::string_view quantization_config) {
  nlohmann::ordered_json out;
  out["architectures"] = {"LlamaForCausalLM"};
  out["model_type"] = "llama";
  out["attention_bias"] = false;
  out["attention_dropout"] = 0.0;
  auto put_id = [&](const char* key, std::optional<int64_t> id) {
    if (id) out[key] = *id;
  };
  put_id("bos_token_id", config.bos_token_id);
  put_id("eos_token_id", config.eos_token_id);
  put_id("pad_token_id", config.pad_token_id);
  out["head_dim"] = config.head_dim;
  out["hidden_act"] = "silu";
  out["hidden_size"] = config.hidden_size;
  out["intermediate_size"] = config.intermediate_size;
  out["max_position_embeddings"] = config.max_position_embeddings;
  out["mlp_bias"] = false;
  out["num_attention_heads"] = config.num_attention_heads;
  out["num_hidden_layers"] = config.num_hidden_layers;
  out["num_key_value_heads"] = config.num_key_value_heads;
  out["rms_norm_eps"] = config.rms_norm_eps;
  // Both generations of the keys, for old and new readers.
  out["rope_theta"] = config.rope_theta;
  out["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", config.rope_theta}};
  out["tie_word_embeddings"] = config.tie_word_embeddings;
  out["torch_dtype"] = dtype;
  out["dtype"] = dtype;
  out["use_cache"] = true;
  out["vocab_size"] = config.vocab_size;
  if (!quantization_config.empty())
    out["quantization_config"] = nlohmann::ordered_json::parse(quantization_config);
  return out.dump(2) + "\n";
}

}  // namespace deepseek_train::models
