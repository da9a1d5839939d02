#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"
#include "deepseek_train/quantization/compressed_tensors.h"

namespace deepseek_train::quantization {
namespace {

using Json = nlohmann::json;

Json args_json(const QuantizationArgs& args) {
  return {{"dynamic", args.dynamic},
          {"group_size", args.strategy == Strategy::kGroup ? Json(args.group_size) : Json(nullptr)},
          {"num_bits", args.num_bits},
          {"strategy", name_of(args.strategy)},
          {"symmetric", args.symmetric},
          {"type", name_of(args.type)}};
}

}  // namespace

std::string to_json(const CompressedTensorsConfig& config) {
  const QuantizationScheme& scheme = config.scheme;
  DST_CHECK(
      scheme.weights == w8a8().weights && scheme.input_activations == w8a8().input_activations,
      "cannot write scheme '", scheme.name,
      "' as compressed-tensors; known schemes: ", scheme_names());
  const Json group = {{"format", "int-quantized"},
                      {"input_activations", args_json(*scheme.input_activations)},
                      {"output_activations", nullptr},
                      {"targets", {"Linear"}},
                      {"weights", args_json(scheme.weights)}};
  // Without quantization_status "compressed" transformers would take the integers for the weights
  // themselves.
  const Json json = {{"config_groups", {{"group_0", group}}},
                     {"format", "int-quantized"},
                     {"global_compression_ratio", nullptr},
                     {"ignore", config.ignore},
                     {"kv_cache_scheme", nullptr},
                     {"moe_sparsity_config", nullptr},
                     {"quant_method", "compressed-tensors"},
                     {"quantization_status", "compressed"},
                     {"sparsity_config", Json::object()},
                     {"transform_config", Json::object()},
                     {"version", "0.20.0"}};
  return json.dump(2);
}

}  // namespace deepseek_train::quantization
