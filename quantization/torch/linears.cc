#include "quantization/torch/linears.h"

#include <utility>

#include "deepseek_train/core/error.h"
#include "deepseek_train/quantization/compressed_tensors.h"

namespace deepseek_train::quantization {

std::vector<NamedLinear> linears_of(torch::nn::Module& root) {
  std::vector<NamedLinear> found;
  for (const auto& entry : root.named_modules(/*name_prefix=*/"", /*include_self=*/false)) {
    if (auto linear = std::dynamic_pointer_cast<ops::Linear>(entry.value()))
      found.push_back({entry.key(), linear});
  }
  return found;
}

std::vector<NamedLinear> chosen_linears(torch::nn::Module& root,
                                        const std::vector<std::string>& ignore) {
  const CompressedTensorsConfig config{.ignore = ignore};
  std::vector<NamedLinear> chosen;
  for (NamedLinear& entry : linears_of(root)) {
    if (!is_ignored(config, entry.name)) chosen.push_back(std::move(entry));
  }
  DST_CHECK(!chosen.empty(), "nothing to quantize in ", root.name(),
            ": no ops::Linear below it but those ignored, ", ignore,
            "; pass the whole model, and ignore less");
  return chosen;
}

}  // namespace deepseek_train::quantization
