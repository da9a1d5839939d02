#include "deepseek_train/quantization/scheme.h"

#include "deepseek_train/core/error.h"

namespace deepseek_train::quantization {

QuantizationScheme w8a8() {
  return {.name = "w8a8",
          .weights = {.strategy = Strategy::kChannel},
          .input_activations = QuantizationArgs{.strategy = Strategy::kToken, .dynamic = true}};
}

std::vector<std::string> scheme_names() { return {"w8a8"}; }

QuantizationScheme scheme_by_name(std::string_view name) {
  if (name == "w8a8") return w8a8();
  const std::string nearest = nearest_word(name, scheme_names());
  throw InvalidArgument(concat("unknown quantization scheme '", name, "'; ",
                               nearest.empty() ? "" : concat("did you mean '", nearest, "'? "),
                               "Known schemes: ", scheme_names()));
}

std::string_view name_of(NumberType type) {
  switch (type) {
    case NumberType::kInt: return "int";
    case NumberType::kFloat: return "float";
  }
  throw Internal("a NumberType without a name");
}

std::string_view name_of(Strategy strategy) {
  switch (strategy) {
    case Strategy::kTensor: return "tensor";
    case Strategy::kChannel: return "channel";
    case Strategy::kGroup: return "group";
    case Strategy::kToken: return "token";
  }
  throw Internal("a Strategy without a name");
}

}  // namespace deepseek_train::quantization
