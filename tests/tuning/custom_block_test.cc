// A user's own attention in a loaded model: examples/custom_attention's, from loading to INT8.
#include <gtest/gtest.h>
#include <unistd.h>

#include "deepseek_train/core/error.h"
#include "deepseek_train/models/checkpoint.h"
#include "deepseek_train/models/generate.h"
#include "deepseek_train/tuning/export.h"
#include "deepseek_train/tuning/model_loader.h"
#include "examples/custom_attention/head_temperature.h"
#include "tests/support/tiny_llama.h"

namespace deepseek_train::tuning {
namespace {

class CustomBlockTest : public testing::Test {
 protected:
  CustomBlockTest() {
    env_.make_folders(folder_);
    text::BpeVocabulary vocabulary;
    for (char letter = 'a'; letter <= 'z'; ++letter)
      vocabulary.tokens.push_back(std::string(1, letter));
    vocabulary.pre = "gpt-2";
    auto tokenizer = text::Tokenizer::from_vocabulary(vocabulary);
    auto config = test_support::tiny_llama_config(/*vocab_size=*/27);
    models::Transformer original(config);
    original.initialize(3);
    export_bf16(env_, original_path(), original, tokenizer);
  }
  ~CustomBlockTest() override { env_.remove_all(folder_); }

  std::string original_path() const { return join_path(folder_, "original"); }
  LoadedModel load(const std::string& path, LoadModelOptions options = {}) {
    options.blocks = &blocks_;
    return load_model(env_, path, options);
  }
  LoadedModel load_replaced() {
    return load(original_path(), {.float32_masters = true, .attention_block = "head_temperature"});
  }
  static torch::Tensor logits(models::Transformer& model) {
    auto ids = torch::arange(0, 20, at::kLong).unsqueeze(0);
    return model.logits(model.hidden_states(ids));
  }
  static void disturb(models::Transformer& model) {
    torch::NoGradGuard no_grad;
    for (auto& item : model.named_parameters())
      if (item.key().ends_with("log_temperature")) item.value().fill_(0.5);
  }

  Env& env_ = posix_env();
  std::string folder_ = join_path(testing::TempDir(), concat("dst_custom_block_", ::getpid()));
  models::BlockRegistry blocks_ = courier::blocks();
};

TEST_F(CustomBlockTest, StartsAsTheOriginalModel) {
  torch::InferenceMode inference;
  auto original = load(original_path());
  auto replaced = load_replaced();
  EXPECT_LT((logits(*original.model) - logits(*replaced.model)).abs().max().item<float>(), 1e-6);
  disturb(*replaced.model);
  EXPECT_GT((logits(*original.model) - logits(*replaced.model)).abs().max().item<float>(), 1e-6);
}

TEST_F(CustomBlockTest, ItsTensorsGetGradients) {
  auto replaced = load_replaced();
  logits(*replaced.model).pow(2).sum().backward();
  int found = 0;
  for (const auto& item : replaced.model->named_parameters()) {
    if (!item.key().ends_with("log_temperature")) continue;
    EXPECT_GT(item.value().grad().abs().sum().item<float>(), 0) << item.key();
    ++found;
  }
  EXPECT_EQ(found, 2);
}

TEST_F(CustomBlockTest, ExportsAndLoadsByItsNameQuantizedToo) {
  torch::InferenceMode inference;
  auto replaced = load_replaced();
  disturb(*replaced.model);
  const auto& tokenizer = replaced.checkpoint->tokenizer();
  export_bf16(env_, join_path(folder_, "bf16"), *replaced.model, tokenizer);
  export_w8a8(env_, join_path(folder_, "w8a8"), *replaced.model, tokenizer, {"lm_head"});
  auto exact = logits(*replaced.model);
  auto plain = load(join_path(folder_, "bf16"));
  EXPECT_EQ(plain.model->config().attention_block, "head_temperature");
  EXPECT_LT((logits(*plain.model) - exact).abs().max().item<float>(),
            0.02 * exact.abs().max().item<float>());
  auto integer = load(join_path(folder_, "w8a8"));
  EXPECT_LT((logits(*integer.model) - exact).abs().max().item<float>(),
            0.1 * exact.abs().max().item<float>());
  EXPECT_NE(integer.int8_products, nullptr);
  EXPECT_EQ(models::generate(*plain.model, {{1, 2, 3}}, {.max_new_tokens = 5})[0].size(), 5u);
}

TEST_F(CustomBlockTest, AProgramWithoutTheBlockRefusesByName) {
  auto replaced = load_replaced();
  export_bf16(env_, join_path(folder_, "bf16"), *replaced.model, replaced.checkpoint->tokenizer());
  try {
    load_model(env_, join_path(folder_, "bf16"), {});
    FAIL() << "loaded without the block";
  } catch (const NotFound& error) {
    EXPECT_NE(std::string(error.what()).find("head_temperature"), std::string::npos);
  }
}

TEST_F(CustomBlockTest, ANameIsRegisteredOnce) {
  EXPECT_THROW(blocks_.add_attention("head_temperature",
                                     [](const models::BlockSite& site) {
                                       return std::make_shared<courier::HeadTemperature>(site);
                                     }),
               InvalidArgument);
}

}  // namespace
}  // namespace deepseek_train::tuning
