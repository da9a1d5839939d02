#include <ATen/CPUGeneratorImpl.h>

#include "deepseek_train/core/error.h"
#include "deepseek_train/models/transformer.h"
#include "deepseek_train/tuning/lora.h"
#include "src/tuning/lora/lora_layer.h"
#include "src/tuning/lora/module_names.h"

namespace deepseek_train::tuning {

struct LoraAdapters::Adapter {
  LoraConfig config;
  std::vector<std::string> modules;            // that it adapts, in the model's order
  std::map<std::string, torch::Tensor> saved;  // its own values of modules_to_save, by parameter
};

namespace {

// The parameters below the modules that modules_to_save names, by their names in the model.
std::map<std::string, torch::Tensor> parameters_to_save(const torch::nn::Module& model,
                                                        const LoraConfig& config) {
  std::map<std::string, torch::Tensor> found;
  for (const auto& entry : config.modules_to_save) {
    const auto before = found.size();
    for (const auto& module : model.named_modules("", /*include_self=*/false))
      if (names_module(entry, module.key()))
        for (const auto& parameter : module.value()->named_parameters())
          found[concat(module.key(), ".", parameter.key())] = parameter.value();
    DST_CHECK(found.size() > before, "modules_to_save has ", entry,
              ", but no module of the model with parameters is named so (a tied lm_head is the "
              "embedding)");
  }
  return found;
}

}  // namespace

LoraAdapters::LoraAdapters(std::shared_ptr<torch::nn::Module> model) : model_(std::move(model)) {
  for (auto& parameter : model_->parameters()) parameter.requires_grad_(false);
}

LoraAdapters::~LoraAdapters() = default;

void LoraAdapters::add(const std::string& name, const LoraConfig& config, uint64_t seed) {
  DST_CHECK(!name.empty() && name.find('.') == std::string::npos, "an adapter cannot be named \"",
            name, "\"; wanted a name without dots");
  DST_CHECK(!adapters_.contains(name), "there is an adapter named ", name, " already");
  check_not_merged("add");
  config.check();
  Adapter adapter{.config = config, .modules = targeted_modules(*model_, config)};
  add_saved_modules(adapter);
  add_layers(adapter, name, seed);
  adapters_.emplace(name, std::make_unique<Adapter>(std::move(adapter)));
  activate(name);
}

void LoraAdapters::add_layers(const Adapter& adapter, const std::string& name, uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  const auto modules = model_->named_modules();
  for (const auto& module : adapter.modules) {
    auto& layer = layers_[module];
    if (!layer) layer = LoraLayer::wrap(*modules[module]->as<ops::Linear>());
    layer->add(name,
               {.rank = adapter.config.rank_of(module),
                .scale = adapter.config.scaling_of(module),
                .dropout = adapter.config.lora_dropout,
                .dora = adapter.config.use_dora},
               generator);
  }
}

// Values of the adapter's own, float32 masters as everything that is trained.
void LoraAdapters::add_saved_modules(Adapter& adapter) {
  const auto parameters = parameters_to_save(*model_, adapter.config);
  const auto* transformer = dynamic_cast<const models::Transformer*>(model_.get());
  for (const auto& [parameter, value] : parameters) {
    DST_CHECK(!(transformer && transformer->config().tie_word_embeddings &&
                parameter == "model.embed_tokens.weight"),
              "modules_to_save has embed_tokens, which in this model is lm_head too; PEFT would "
              "train one of the two only, so this is refused");
    originals_.emplace(parameter, value.detach());
    adapter.saved[parameter] = originals_.at(parameter).to(at::kFloat, /*non_blocking=*/false,
                                                           /*copy=*/true);
  }
}

void LoraAdapters::remove(const std::string& name) {
  find(name);
  check_not_merged("remove");
  if (active_ == name) deactivate();
  for (auto entry = layers_.begin(); entry != layers_.end();) {
    entry->second->remove(name);
    if (!entry->second->empty()) {
      ++entry;
      continue;
    }
    entry->second->unwrap();
    entry = layers_.erase(entry);
  }
  adapters_.erase(name);
}

void LoraAdapters::activate(const std::string& name) {
  const auto& adapter = find(name);
  check_not_merged("activate");
  for (auto& [module, layer] : layers_) layer->activate(name);
  use_saved(adapter.saved);
  active_ = name;
}

void LoraAdapters::deactivate() {
  check_not_merged("deactivate");
  for (auto& [module, layer] : layers_) layer->activate({});
  use_saved({});
  active_.clear();
}

// The parameters keep their identity and change their memory, so that whoever holds one sees it.
void LoraAdapters::use_saved(const std::map<std::string, torch::Tensor>& saved) {
  if (originals_.empty()) return;
  auto parameters = model_->named_parameters();
  for (const auto& [name, original] : originals_) {
    auto own = saved.find(name);
    auto& parameter = parameters[name];
    parameter.set_data(own == saved.end() ? original : own->second);
    parameter.requires_grad_(own != saved.end());
  }
}

std::vector<std::string> LoraAdapters::names() const {
  std::vector<std::string> names;
  for (const auto& [name, unused] : adapters_) names.push_back(name);
  return names;
}

LoraAdapters::Adapter& LoraAdapters::find(const std::string& name) const {
  auto found = adapters_.find(name);
  DST_CHECK_AS(NotFound, found != adapters_.end(), "there is no adapter named ", name,
               "; there are ", names());
  return *found->second;
}

const LoraConfig& LoraAdapters::config(const std::string& name) const { return find(name).config; }

std::vector<formats::NamedTensor> LoraAdapters::tensors(const std::string& name) const {
  const auto& adapter = find(name);
  std::vector<formats::NamedTensor> tensors;
  for (const auto& module : adapter.modules)
    for (auto& [key, tensor] : layers_.at(module)->tensors(name))
      tensors.push_back({concat(module, ".", key), tensor});
  for (const auto& [parameter, value] : adapter.saved) tensors.push_back({parameter, value});
  return tensors;
}

void LoraAdapters::merge() {
  DST_CHECK(!active_.empty(), "no adapter is active: nothing to merge");
  check_not_merged("merge");
  for (auto& [module, layer] : layers_) layer->check_mergeable(module);
  for (auto& [module, layer] : layers_) layer->merge(/*keep=*/true);
  merged_ = true;
}

void LoraAdapters::unmerge() {
  DST_CHECK(merged_, "the adapter is not merged");
  for (auto& [module, layer] : layers_) layer->unmerge();
  merged_ = false;
}

void LoraAdapters::merge_and_unload() {
  DST_CHECK(!active_.empty(), "no adapter is active: nothing to merge");
  check_not_merged("merge");
  for (auto& [module, layer] : layers_) layer->check_mergeable(module);
  for (auto& [module, layer] : layers_) {
    layer->merge(/*keep=*/false);
    layer->unwrap();
  }
  for (auto& parameter : model_->parameters()) parameter.requires_grad_(false);
  layers_.clear();
  originals_.clear();
  adapters_.clear();
  active_.clear();
}

void LoraAdapters::check_not_merged(const char* what) const {
  DST_CHECK(!merged_, "cannot ", what, " while an adapter is merged; unmerge() first");
}

}  // namespace deepseek_train::tuning
