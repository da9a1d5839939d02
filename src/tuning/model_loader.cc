#include "deepseek_train/tuning/model_loader.h"

#include <map>
#include <set>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"
#include "deepseek_train/quantization/compressed_tensors.h"
#include "deepseek_train/quantization/torch/fake_quantize.h"
#include "deepseek_train/quantization/torch/qat.h"

namespace deepseek_train::tuning {
namespace {

using models::Checkpoint;
using models::Transformer;

// The weight is a dequantized one already; only the activations are still to be rounded.
class DequantizedLinearMethod final : public ops::LinearMethod {
 public:
  torch::Tensor apply(const torch::Tensor& input, const torch::Tensor& weight,
                      const torch::Tensor& bias) override {
    return at::linear(quantization::fake_quantize_tokens(input), weight.to(input.scalar_type()),
                      bias);
  }
  std::string name() const override { return "dequantized w8a8"; }
};

// Linear layers that the folder holds as INT8, by name.
std::map<std::string, ops::Linear*> quantized_layers(Transformer& model,
                                                     const Checkpoint& checkpoint) {
  const auto config =
      quantization::parse_compressed_tensors_config(checkpoint.quantization_config());
  std::map<std::string, ops::Linear*> layers;
  for (const auto& module : model.named_modules())
    if (auto* linear = module.value()->as<ops::Linear>();
        linear && !quantization::is_ignored(config, module.key()))
      layers[module.key()] = linear;
  return layers;
}

void load_dequantized(ops::Linear& linear, const torch::Tensor& values,
                      const torch::Tensor& scales) {
  torch::NoGradGuard no_grad;
  linear.weight.copy_(values.to(at::kFloat) * scales.to(at::kFloat));
  linear.set_method(std::make_shared<DequantizedLinearMethod>());
}

void check_shapes(const Checkpoint& checkpoint, const std::string& name, const ops::Linear& linear,
                  const torch::Tensor& values, const torch::Tensor& scales) {
  DST_CHECK_AS(DataCorruption,
               values.scalar_type() == at::kChar && values.dim() == 2 &&
                   values.size(0) == linear.out_features() &&
                   values.size(1) == linear.in_features() &&
                   scales.numel() == linear.out_features(),
               checkpoint.path(), ": ", name, " has an INT8 weight of shape ", values.sizes().vec(),
               " with ", scales.numel(), " scales, config.json asks for [", linear.out_features(),
               ", ", linear.in_features(), "]");
}

void load_compressed(LoadedModel& loaded, const LoadModelOptions& options) {
  auto& model = *loaded.model;
  const auto& checkpoint = *loaded.checkpoint;
  const auto layers = quantized_layers(model, checkpoint);
  std::set<std::string> elsewhere;
  for (const auto& [name, linear] : layers)
    elsewhere.insert({name + ".weight", name + ".weight_scale"});
  models::load_weights(model, checkpoint, elsewhere);
  const bool reference = options.numerics == models::Numerics::kReference;
  if (!reference) loaded.int8_products = std::make_shared<quantization::Int8ProductCounter>();
  for (const auto& [name, linear] : layers) {
    auto values = checkpoint.tensor(name + ".weight"),
         scales = checkpoint.tensor(name + ".weight_scale");
    check_shapes(checkpoint, name, *linear, values, scales);
    if (reference) {
      load_dequantized(*linear, values, scales);
    } else {
      quantization::set_int8_weight(*linear, values, scales.to(at::kFloat), loaded.int8_products);
    }
  }
}

std::shared_ptr<Transformer> make_model(models::ModelConfig config,
                                        const LoadModelOptions& options) {
  if (!options.attention_block.empty()) config.attention_block = options.attention_block;
  if (!options.mlp_block.empty()) config.mlp_block = options.mlp_block;
  return std::make_shared<Transformer>(config,
                                       options.blocks ? *options.blocks : models::BlockRegistry());
}

void report(const models::LoadReport& loaded) {
  if (loaded.initialized.empty() && loaded.dropped.empty()) return;
  log_info("the new block has ", loaded.initialized.size(),
           " tensors that are not in the checkpoint, as its constructor left them: ",
           loaded.initialized);
  if (!loaded.dropped.empty())
    log_info("it has no use for ", loaded.dropped.size(), " of the checkpoint: ", loaded.dropped);
}

}  // namespace

LoadedModel load_model(Env& env, const std::string& path, const LoadModelOptions& options) {
  return load_model(models::open_checkpoint(env, path), options);
}

LoadedModel load_model(std::unique_ptr<models::Checkpoint> checkpoint,
                       const LoadModelOptions& options) {
  LoadedModel loaded;
  loaded.checkpoint = std::move(checkpoint);
  loaded.model = make_model(loaded.checkpoint->config(), options);
  if (loaded.checkpoint->quantization_config().empty()) {
    report(models::load_weights(*loaded.model, *loaded.checkpoint));
  } else {
    DST_CHECK(!options.float32_masters, loaded.checkpoint->path(),
              " is a compressed model; train and export from its floating-point original");
    load_compressed(loaded, options);
  }
  if (!options.float32_masters) loaded.model->to(options.compute_dtype);
  loaded.model->set_compute_dtype(options.compute_dtype);
  loaded.model->set_numerics(options.numerics);
  return loaded;
}

at::ScalarType compute_dtype_by_name(std::string_view name) {
  if (name == "auto") return __builtin_cpu_supports("avx512bf16") ? at::kBFloat16 : at::kFloat;
  if (name == "bfloat16") return at::kBFloat16;
  DST_CHECK(name == "float32", "compute_dtype is \"", name, "\", wanted auto, float32 or bfloat16");
  return at::kFloat;
}

}  // namespace deepseek_train::tuning
