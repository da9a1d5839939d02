#include "deepseek_train/tuning/export.h"

#include "deepseek_train/core/error.h"
#include "deepseek_train/models/checkpoint.h"
#include "deepseek_train/ops/linear.h"
#include "deepseek_train/quantization/compressed_tensors.h"

namespace deepseek_train::tuning {
namespace {

// The two tensors of a quantized Linear; `weight` is [N, K] float32.
void append_quantized(std::vector<formats::NamedTensor>& tensors, const std::string& module,
                      const torch::Tensor& weight) {
  auto contiguous = weight.detach().contiguous();
  auto quantized = quantization::quantize_weight(
      {contiguous.const_data_ptr<float>(), static_cast<size_t>(contiguous.numel())},
      contiguous.size(0), contiguous.size(1));
  tensors.push_back(
      {module + ".weight",
       torch::from_blob(quantized.values.data(), contiguous.sizes(), at::kChar).clone()});
  tensors.push_back(
      {module + ".weight_scale",
       torch::from_blob(quantized.scales.data(), {contiguous.size(0), 1}, at::kFloat).clone()});
}

}  // namespace

void export_bf16(Env& env, const std::string& folder, const models::Transformer& model,
                 const text::Tokenizer& tokenizer) {
  models::write_folder(env, folder, models::folder_files(model.config(), tokenizer, "bfloat16"),
                       models::named_weights(model, at::kBFloat16));
}

void export_w8a8(Env& env, const std::string& folder, models::Transformer& model,
                 const text::Tokenizer& tokenizer, const std::vector<std::string>& ignore) {
  const quantization::CompressedTensorsConfig config{quantization::w8a8(), ignore};
  std::set<std::string> quantized;  // names of weights
  for (const auto& module : model.named_modules())
    if (module.value()->as<ops::Linear>() && !quantization::is_ignored(config, module.key()))
      quantized.insert(module.key() + ".weight");
  std::vector<formats::NamedTensor> tensors;
  for (const auto& parameter : model.named_parameters()) {
    const auto& name = parameter.key();
    if (quantized.contains(name)) {
      append_quantized(tensors, name.substr(0, name.size() - std::string_view(".weight").size()),
                       parameter.value());
    } else {
      tensors.push_back({name, parameter.value().detach().to(at::kBFloat16)});
    }
  }
  DST_CHECK(!quantized.empty(), "no linear layer is left to quantize; the ignore list is ", ignore);
  models::write_folder(
      env, folder,
      models::folder_files(model.config(), tokenizer, "bfloat16", quantization::to_json(config)),
      tensors);
}

}  // namespace deepseek_train::tuning
