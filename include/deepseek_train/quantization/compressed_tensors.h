// The compressed-tensors encoding, as release 0.20.0 writes it: what stands in config.json under
// "quantization_config", and which tensors a quantized Linear has.
// Source: vllm-project/compressed-tensors, src/compressed_tensors/quantization/quant_config.py.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "deepseek_train/formats/safetensors.h"
#include "deepseek_train/quantization/scheme.h"

namespace deepseek_train::quantization {

struct CompressedTensorsConfig {
  QuantizationScheme scheme;
  // Linear modules left in floating point, by name ("lm_head") or as "re:" and a regular expression
  // that matches the beginning of the name. A reader takes every other Linear for quantized: forget
  // none.
  std::vector<std::string> ignore;
};

// The JSON object for "quantization_config", two spaces of indentation. Throws InvalidArgument for
// a scheme that this encoding's writer does not know (all but w8a8).
std::string to_json(const CompressedTensorsConfig& config);

// Reads such an object; keys that do not matter are passed over. Throws DataCorruption if it is no
// JSON object or a value has the wrong type, InvalidArgument, naming key and value, for what this
// library cannot run: another quant_method, a model that is not compressed, several groups, other
// formats, bits or strategies, sparsity, transforms, a quantized KV cache. Never guesses: what
// loads is computed as it was trained.
CompressedTensorsConfig parse_compressed_tensors_config(std::string_view json);

// Whether the Linear of that name stays in floating point.
// Throws InvalidArgument for a regular expression that cannot be read.
bool is_ignored(const CompressedTensorsConfig& config, std::string_view module_name);

// What file a quantized Linear's tensors are, for SafetensorsWriter: `prefix`.weight I8 [N, K] and
// `prefix`.weight_scale F32 [N, 1].
std::vector<formats::TensorInfo> compressed_linear_tensors(std::string_view prefix,
                                                           int64_t out_features,
                                                           int64_t in_features);

// A weight as it is stored: q [N, K] and scales [N].
struct QuantizedWeight {
  int64_t out_features = 0;
  int64_t in_features = 0;
  std::vector<int8_t> values;
  std::vector<float> scales;
};

// Quantizes each output channel by the convention of int8.h. Throws InvalidArgument if the span is
// not [N, K], or, naming the channel, if a channel holds a NaN or an infinity: such a weight must
// not be exported.
QuantizedWeight quantize_weight(std::span<const float> weight, int64_t out_features,
                                int64_t in_features);

}  // namespace deepseek_train::quantization
