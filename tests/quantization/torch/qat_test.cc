#include "deepseek_train/quantization/torch/qat.h"

#include <gtest/gtest.h>

#include "deepseek_train/core/error.h"
#include "deepseek_train/quantization/torch/fake_quantize.h"

namespace deepseek_train::quantization {
namespace {

// An embedding, two layers, and a head tied to the embedding.
class TinyModel : public torch::nn::Module {
 public:
  TinyModel() {
    torch::manual_seed(1);
    embedding_ = register_parameter("embedding", torch::randn({50, 16}));
    up_ = register_module("up", std::make_shared<ops::Linear>(ops::LinearOptions{16, 32, true}));
    down_ = register_module("down", std::make_shared<ops::Linear>(ops::LinearOptions{32, 16}));
    lm_head_ =
        register_module("lm_head", std::make_shared<ops::Linear>(ops::LinearOptions{16, 50}));
    up_->reset_parameters(0.2);
    down_->reset_parameters(0.2);
    lm_head_->share_weight(embedding_);
  }

  torch::Tensor forward(const torch::Tensor& tokens) {
    torch::Tensor hidden = embedding_.index_select(0, tokens);
    hidden = hidden + down_->forward(torch::relu(up_->forward(hidden)));
    return lm_head_->forward(hidden);
  }

  torch::Tensor embedding_;
  std::shared_ptr<ops::Linear> up_, down_, lm_head_;
};

const torch::Tensor kTokens = torch::arange(0, 50, 5);

TEST(QatTest, PrepareNamesWhatItChangesAndRemoveRestoresIt) {
  TinyModel model;
  const torch::Tensor dense = model.forward(kTokens);
  EXPECT_EQ(prepare_qat(model, w8a8()), (std::vector<std::string>{"up", "down"}));
  EXPECT_EQ(model.up_->method()->name(), "fake-quantized w8a8");
  EXPECT_EQ(model.lm_head_->method()->name(), "dense");
  EXPECT_FALSE(torch::equal(model.forward(kTokens), dense));
  remove_qat(model);
  EXPECT_TRUE(torch::equal(model.forward(kTokens), dense));
  remove_qat(model);  // once more is no error
}

TEST(QatTest, PatternsIgnore) {
  TinyModel model;
  EXPECT_EQ(prepare_qat(model, w8a8(), {"re:lm_.*", "down"}), std::vector<std::string>{"up"});
  EXPECT_EQ(prepare_qat(model, w8a8(), {}), (std::vector<std::string>{"up", "down", "lm_head"}));
}

TEST(QatTest, TrainingThroughFakeQuantizationLowersItsLoss) {
  TinyModel model;
  prepare_qat(model, w8a8(), {});
  const torch::Tensor targets = (kTokens + 1) % 50;
  torch::optim::AdamW optimizer(model.parameters(), torch::optim::AdamWOptions(1e-2));
  float first = 0, last = 0;
  for (int step = 0; step < 40; ++step) {
    optimizer.zero_grad();
    const torch::Tensor loss =
        torch::nn::functional::cross_entropy(model.forward(kTokens), targets);
    loss.backward();
    optimizer.step();
    (step == 0 ? first : last) = loss.item<float>();
  }
  EXPECT_LT(last, first / 4);
}

TEST(QatTest, ConvertedModelEqualsTheFakeQuantizedOneAndDropsItsWeights) {
  torch::NoGradGuard no_grad;
  TinyModel model;
  prepare_qat(model, w8a8());
  const torch::Tensor trained = model.forward(kTokens);
  const Int8Model converted = convert(model, w8a8());
  EXPECT_EQ(converted.names, (std::vector<std::string>{"up", "down"}));
  EXPECT_NE(converted.kernel.find("int8 w8a8"), std::string::npos);
  EXPECT_TRUE(torch::allclose(model.forward(kTokens), trained, 1e-5, 1e-5));
  EXPECT_EQ(converted.counter->count(), 2);
  EXPECT_EQ(model.named_parameters().keys(), (std::vector<std::string>{"embedding", "up.bias"}));
}

TEST(QatTest, ATiedHeadIsConvertedOnRequestAndTheEmbeddingStays) {
  torch::NoGradGuard no_grad;
  TinyModel model;
  prepare_qat(model, w8a8(), {});
  const torch::Tensor trained = model.forward(kTokens), embedding = model.embedding_.clone();
  const Int8Model converted = convert(model, w8a8(), {});
  EXPECT_EQ(converted.names.back(), "lm_head");
  EXPECT_TRUE(torch::allclose(model.forward(kTokens), trained, 1e-5, 1e-5));
  EXPECT_EQ(converted.counter->count(), 3);
  EXPECT_TRUE(torch::equal(model.embedding_, embedding));
}

TEST(QatTest, StoredIntegersGiveTheConvertedModel) {
  torch::NoGradGuard no_grad;
  TinyModel converted, loaded;
  const Int8Weight stored = quantize_channels(loaded.up_->weight);
  convert(converted, w8a8(), {"lm_head", "down"});
  set_int8_weight(*loaded.up_, stored.values, stored.scales,
                  std::make_shared<Int8ProductCounter>());
  EXPECT_TRUE(torch::equal(loaded.forward(kTokens), converted.forward(kTokens)));
  EXPECT_THROW(set_int8_weight(*loaded.down_, stored.values, stored.scales, nullptr),
               InvalidArgument);
}

TEST(QatTest, MistakesAreNamed) {
  TinyModel model;
  EXPECT_THROW(prepare_qat(model, w8a8(), {"re:.*"}), InvalidArgument);
  torch::nn::Module empty;
  EXPECT_THROW(convert(empty, w8a8()), InvalidArgument);
  QuantizationScheme scheme = w8a8();
  scheme.name = "w4a8";
  scheme.weights.num_bits = 4;
  EXPECT_THROW(prepare_qat(model, scheme), InvalidArgument);
  EXPECT_THROW(convert(model, scheme), InvalidArgument);
  convert(model, w8a8());
  try {
    prepare_qat(model, w8a8());
    FAIL() << "a converted model was prepared for training";
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("up has no fp32 weight"), std::string::npos)
        << error.what();
  }
  EXPECT_THROW(convert(model, w8a8()), InvalidArgument);
}

}  // namespace
}  // namespace deepseek_train::quantization
