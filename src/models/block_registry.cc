#include "deepseek_train/core/error.h"
#include "deepseek_train/models/blocks.h"
#include "src/models/dense_blocks.h"
#include "src/models/latent_attention.h"
#include "src/models/mixture_of_experts.h"

namespace deepseek_train::models {
namespace {

template <typename Factory>
void add(std::map<std::string, Factory>& factories, const std::string& name, Factory factory) {
  DST_CHECK(!name.empty() && factory, "a block needs a name and a factory");
  DST_CHECK(factories.emplace(name, std::move(factory)).second, "a block named ", name,
            " is registered already");
}

template <typename Factory>
const Factory& find(const std::map<std::string, Factory>& factories, const std::string& name,
                    const char* kind) {
  auto found = factories.find(name);
  std::vector<std::string> names;
  for (const auto& [known, unused] : factories) names.push_back(known);
  DST_CHECK_AS(NotFound, found != factories.end(), "the model asks for ", kind, " block \"", name,
               "\", which this program has not registered; it has ", names,
               ". Run it with the program that trained the model");
  return found->second;
}

}  // namespace

void BlockRegistry::add_attention(const std::string& name, AttentionFactory factory) {
  add(attentions_, name, std::move(factory));
}

void BlockRegistry::add_mlp(const std::string& name, MlpFactory factory) {
  add(mlps_, name, std::move(factory));
}

std::shared_ptr<AttentionBlock> BlockRegistry::make_attention(const BlockSite& site) const {
  const auto& config = site.config;
  if (!config.attention_block.empty())
    return find(attentions_, config.attention_block, "attention")(site);
  if (config.mla) return std::make_shared<LatentAttention>(site);
  return std::make_shared<GroupedQueryAttention>(site);
}

std::shared_ptr<MlpBlock> BlockRegistry::make_mlp(const BlockSite& site) const {
  const auto& config = site.config;
  if (!config.mlp_block.empty()) return find(mlps_, config.mlp_block, "MLP")(site);
  if (config.uses_experts(site.layer)) return std::make_shared<MixtureOfExperts>(site);
  return std::make_shared<SwiGluMlp>(site, config.intermediate_size);
}

}  // namespace deepseek_train::models
