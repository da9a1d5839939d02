// Pretrained models on disk: Hugging Face folders and GGUF files in, Hugging Face folders out.
#pragma once

#include <torch/torch.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "deepseek_train/core/env.h"
#include "deepseek_train/formats/torch/tensor_file.h"
#include "deepseek_train/models/transformer.h"
#include "deepseek_train/text/tokenizer.h"

namespace deepseek_train::models {

// A model being read: its shape, its tokenizer, and its tensors under Hugging Face's names and
// layout. One thread.
class Checkpoint {
 public:
  virtual ~Checkpoint() = default;
  virtual const std::string& path() const = 0;
  virtual const ModelConfig& config() const = 0;
  virtual const text::Tokenizer& tokenizer() const = 0;
  // config.json's quantization_config as JSON text; empty for plain weights.
  virtual const std::string& quantization_config() const = 0;
  virtual std::vector<std::string> tensor_names() const = 0;
  // The values as stored; GGUF's are dequantized to float32 and its q and k rows brought into
  // Hugging Face's order. May borrow from the mapped file: valid while the checkpoint lives. Throws
  // NotFound naming the nearest.
  virtual torch::Tensor tensor(const std::string& name) const = 0;
};

// Opens a folder (config.json, model.safetensors or its shards, tokenizer.json) or a .gguf file.
// Throws NotFound naming the missing file, DataCorruption for a damaged one, InvalidArgument for an
// unknown architecture.
std::unique_ptr<Checkpoint> open_checkpoint(Env& env, const std::string& path);

// What load_weights could not take from the checkpoint because the model has a block of the user's
// own in place of the one it was trained with. Both empty for a model as it was saved.
struct LoadReport {
  std::vector<std::string> initialized;  // of the new block: as its constructor left them
  std::vector<std::string> dropped;      // of the old block
};

// Copies every parameter and buffer of `model` from the checkpoint, converting the type. Names in
// `elsewhere` are loaded by the caller (quantized weights). Throws DataCorruption unless every one
// of them and every tensor is used exactly once, and for NaN or infinite values, by name. Of an
// expert-parallel model each rank reads its own experts only.
LoadReport load_weights(Transformer& model, const Checkpoint& checkpoint,
                        const std::set<std::string>& elsewhere = {});

// What a Hugging Face folder holds beside its tensors.
struct FolderFiles {
  std::string config_json;
  std::string tokenizer_json;
  std::string tokenizer_config_json;
  std::string generation_config_json;
};

// The files for `model`'s folder. `dtype` and `quantization_config` as in to_config_json.
FolderFiles folder_files(const ModelConfig& config, const text::Tokenizer& tokenizer,
                         std::string_view dtype, std::string_view quantization_config = {});

// Writes the folder under a temporary name, then renames it into place; an older one of that name
// is replaced.
void write_folder(Env& env, const std::string& folder, const FolderFiles& files,
                  const std::vector<formats::NamedTensor>& tensors);

// Parameters of the model under their names, converted to `dtype`, and its buffers as they are; for
// write_folder. The copies of embedding and output projection that a checkpoint holds with each
// multi-token prediction layer are among them. Throws InvalidArgument for a model that holds only
// some of its experts.
std::vector<formats::NamedTensor> named_weights(const Transformer& model, at::ScalarType dtype);

}  // namespace deepseek_train::models
