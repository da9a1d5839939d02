// A Hugging Face folder: config.json, model.safetensors (or shards with an index), tokenizer.json.
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "deepseek_train/core/error.h"
#include "src/models/checkpoint_readers.h"

namespace deepseek_train::models {
namespace {

std::vector<std::string> shard_names(Env& env, const std::string& folder) {
  auto index_path = join_path(folder, "model.safetensors.index.json");
  if (!env.exists(index_path)) return {"model.safetensors"};
  auto index = nlohmann::json::parse(read_text(env, index_path), nullptr, false);
  DST_CHECK_AS(DataCorruption,
               index.is_object() && index.contains("weight_map") && index["weight_map"].is_object(),
               index_path, " has no \"weight_map\" object");
  std::set<std::string> names;
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    auto name = shard.get<std::string>();
    DST_CHECK_AS(DataCorruption, name.find('/') == std::string::npos, index_path,
                 " names the shard ", name, ", which is not in the folder itself");
    names.insert(name);
  }
  return {names.begin(), names.end()};
}

class FolderCheckpoint final : public Checkpoint {
 public:
  FolderCheckpoint(Env& env, const std::string& folder)
      : path_(folder),
        config_json_(read_text(env, join_path(folder, "config.json"))),
        config_(model_config_from_json(config_json_)),
        tokenizer_(text::Tokenizer::from_folder(env, folder)) {
    auto config = nlohmann::json::parse(config_json_);
    if (config.contains("quantization_config"))
      quantization_config_ = config["quantization_config"].dump();
    check_vocabulary(path_, tokenizer_, config_);
    for (const auto& name : shard_names(env, folder)) add_shard(env, join_path(folder, name));
  }

  const std::string& path() const override { return path_; }
  const ModelConfig& config() const override { return config_; }
  const text::Tokenizer& tokenizer() const override { return tokenizer_; }
  const std::string& quantization_config() const override { return quantization_config_; }
  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names;
    for (const auto& shard : shards_)
      for (const auto& tensor : shard->tensors()) names.push_back(tensor.name);
    return names;
  }
  torch::Tensor tensor(const std::string& name) const override {
    auto found = views_.find(name);
    DST_CHECK_AS(NotFound, found != views_.end(), path_, " has no tensor ", name,
                 "; nearest: ", nearest_word(name, tensor_names()));
    return formats::as_tensor(*found->second);
  }

 private:
  void add_shard(Env& env, const std::string& path) {
    shards_.push_back(std::make_unique<formats::SafetensorsFile>(env, path));
    for (const auto& tensor : shards_.back()->tensors())
      DST_CHECK_AS(DataCorruption, views_.emplace(tensor.name, &tensor).second, path_,
                   " holds the tensor ", tensor.name, " in two shards");
  }

  std::string path_;
  std::string config_json_;
  ModelConfig config_;
  text::Tokenizer tokenizer_;
  std::string quantization_config_;
  std::vector<std::unique_ptr<formats::SafetensorsFile>> shards_;
  std::unordered_map<std::string, const formats::TensorView*> views_;
};

}  // namespace

std::unique_ptr<Checkpoint> open_folder_checkpoint(Env& env, const std::string& folder) {
  return std::make_unique<FolderCheckpoint>(env, folder);
}

}  // namespace deepseek_train::models
