#include "deepseek_train/models/checkpoint.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "deepseek_train/core/error.h"
#include "tests/support/tiny_llama.h"

namespace deepseek_train::models {
namespace {

text::Tokenizer tiny_tokenizer() {
  text::BpeVocabulary vocabulary;
  for (char c = 'a'; c <= 'z'; ++c) vocabulary.tokens.push_back(std::string(1, c));
  vocabulary.tokens.push_back("<|end|>");
  vocabulary.token_types.assign(26, 1);
  vocabulary.token_types.push_back(3);
  vocabulary.pre = "smollm";
  vocabulary.eos_id = 26;
  return text::Tokenizer::from_vocabulary(vocabulary);
}

class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() : folder_(join_path(testing::TempDir(), concat("dst_checkpoint_", ::getpid()))) {
    model_ = std::make_shared<Transformer>(config_);
    model_->initialize(1);
  }
  ~CheckpointTest() override { env_.remove_all(folder_); }

  void write(const std::vector<formats::NamedTensor>& tensors) {
    write_folder(env_, folder_, folder_files(config_, tokenizer_, "float32"), tensors);
  }
  std::string load_error() {
    try {
      Transformer model(config_);
      load_weights(model, *open_checkpoint(env_, folder_));
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  Env& env_ = posix_env();
  std::string folder_;
  ModelConfig config_ = test_support::tiny_llama_config(/*vocab_size=*/27);
  text::Tokenizer tokenizer_ = tiny_tokenizer();
  std::shared_ptr<Transformer> model_;
};

TEST_F(CheckpointTest, FolderRoundTrip) {
  write(named_weights(*model_, at::kFloat));
  auto checkpoint = open_checkpoint(env_, folder_);
  EXPECT_EQ(checkpoint->config(), config_);
  EXPECT_EQ(checkpoint->tokenizer().sha256(), tokenizer_.sha256());
  Transformer loaded(config_);
  load_weights(loaded, *checkpoint);
  auto ids = torch::arange(0, 20, at::kLong).unsqueeze(0);
  torch::InferenceMode inference;
  EXPECT_TRUE(torch::equal(loaded.logits(loaded.hidden_states(ids)),
                           model_->logits(model_->hidden_states(ids))));
}

TEST_F(CheckpointTest, AMissingTensorIsNamed) {
  auto tensors = named_weights(*model_, at::kFloat);
  auto missing = tensors.back().name;
  tensors.pop_back();
  write(tensors);
  EXPECT_NE(load_error().find(missing), std::string::npos) << load_error();
}

TEST_F(CheckpointTest, AnUnknownTensorIsNamed) {
  auto tensors = named_weights(*model_, at::kFloat);
  tensors.push_back({"model.layers.0.self_attn.q_norm.weight", torch::ones({8})});
  write(tensors);
  EXPECT_NE(load_error().find("q_norm"), std::string::npos) << load_error();
}

TEST_F(CheckpointTest, AWrongShapeIsNamed) {
  auto tensors = named_weights(*model_, at::kFloat);
  tensors.front().tensor = tensors.front().tensor.slice(0, 0, 5);
  write(tensors);
  EXPECT_NE(load_error().find("[5, 16]"), std::string::npos) << load_error();
}

TEST_F(CheckpointTest, AFailedWriteLeavesTheOldFolder) {
  write(named_weights(*model_, at::kFloat));
  auto tensors = named_weights(*model_, at::kFloat);
  tensors.push_back(tensors.front());  // the same name twice is refused
  EXPECT_THROW(write(tensors), Error);
  EXPECT_EQ(load_error(), "");
  for (const auto& name : env_.list(testing::TempDir()))
    EXPECT_EQ(name.find(concat("dst_checkpoint_", ::getpid(), ".partial")), std::string::npos)
        << name;
}

TEST_F(CheckpointTest, NoModelAtAll) {
  EXPECT_THROW(open_checkpoint(env_, folder_), NotFound);
  env_.make_folders(folder_);
  EXPECT_THROW(open_checkpoint(env_, folder_), NotFound);
}

}  // namespace
}  // namespace deepseek_train::models
