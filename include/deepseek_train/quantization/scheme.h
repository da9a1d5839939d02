// What is quantized and how, in the vocabulary of compressed-tensors.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace deepseek_train::quantization {

enum class NumberType { kInt, kFloat };

// Which values share one scale: all of a tensor, an output channel (a row of the weight),
// `group_size` neighbours along the input features, or a token (a row of the activations).
enum class Strategy { kTensor, kChannel, kGroup, kToken };

struct QuantizationArgs {
  int num_bits = 8;
  NumberType type = NumberType::kInt;
  bool symmetric = true;
  Strategy strategy = Strategy::kTensor;
  int64_t group_size = 0;  // kGroup only
  bool dynamic = false;    // scales are computed while running, not stored
  bool operator==(const QuantizationArgs&) const = default;
};

struct QuantizationScheme {
  std::string name;
  QuantizationArgs weights;
  std::optional<QuantizationArgs> input_activations;  // none: activations stay in floating point
  bool operator==(const QuantizationScheme&) const = default;
};

// INT8 weights with one scale per output channel, INT8 activations with one per token, both
// symmetric.
QuantizationScheme w8a8();

// Every name scheme_by_name knows.
std::vector<std::string> scheme_names();
// Throws InvalidArgument naming the nearest scheme.
QuantizationScheme scheme_by_name(std::string_view name);

// "int", "channel", ...: the words of compressed-tensors.
std::string_view name_of(NumberType type);
std::string_view name_of(Strategy strategy);

}  // namespace deepseek_train::quantization
