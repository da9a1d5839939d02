#include "deepseek_train/ops/linear.h"

#include <gtest/gtest.h>

#include <memory>

#include "deepseek_train/core/error.h"

namespace deepseek_train::ops {
namespace {

std::shared_ptr<Linear> small_linear(bool bias) {
  torch::manual_seed(3);
  auto linear =
      std::make_shared<Linear>(LinearOptions{.in_features = 5, .out_features = 3, .bias = bias});
  linear->reset_parameters(1.0);
  return linear;
}

// A method with weights of its own, as a packed INT8 one has.
class ConstantMethod : public LinearMethod {
 public:
  torch::Tensor apply(const torch::Tensor& input, const torch::Tensor& weight,
                      const torch::Tensor&) override {
    EXPECT_FALSE(weight.defined());
    return input.new_full({input.size(0), 3}, 7);
  }
  std::string name() const override { return "constant"; }
};

// One row without gradient takes a kernel of its own; several rows, or with gradient, libtorch's.
TEST(LinearTest, OneRowEqualsTheSameRowAmongOthers) {
  for (auto dtype : {at::kFloat, at::kBFloat16})
    for (int64_t features : {1, 63, 64, 577, 2048}) {
      Linear linear({.in_features = features, .out_features = 2 * features + 1, .bias = true});
      torch::manual_seed(features);
      linear.reset_parameters(1.0);
      linear.to(dtype);
      auto input = torch::randn({2, features}).to(dtype);
      auto several = linear.forward(input)[1];
      torch::NoGradGuard no_grad;
      auto one = linear.forward(input[1].view({1, 1, features}));
      ASSERT_EQ(one.sizes(), torch::IntArrayRef({1, 1, 2 * features + 1}));
      const double tolerance = dtype == at::kFloat ? 1e-6 : 1.0 / 128;
      EXPECT_LT((one.flatten() - several).abs().max().item<double>(),
                tolerance * several.abs().max().item<double>())
          << features;
    }
}

TEST(LinearTest, EqualsTheProductElementByElement) {
  auto linear = small_linear(true);
  {
    torch::NoGradGuard no_grad;
    linear->bias.copy_(torch::tensor({1.0f, -2.0f, 3.0f}));
  }
  auto input = torch::randn({2, 4, 5});
  auto output = linear->forward(input);
  ASSERT_EQ(output.sizes(), torch::IntArrayRef({2, 4, 3}));
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t t = 0; t < 4; ++t)
      for (int64_t n = 0; n < 3; ++n) {
        double sum = linear->bias[n].item<double>();
        for (int64_t k = 0; k < 5; ++k)
          sum += input[b][t][k].item<double>() * linear->weight[n][k].item<double>();
        EXPECT_NEAR(output[b][t][n].item<double>(), sum, 1e-5);
      }
}

TEST(LinearTest, Bf16InputGivesBf16OutputAndFp32GradientAtTheMasterWeight) {
  auto linear = small_linear(true);
  auto input = torch::randn({4, 5}).to(torch::kBFloat16).set_requires_grad(true);
  auto output = linear->forward(input);
  EXPECT_EQ(output.scalar_type(), torch::kBFloat16);
  output.sum().backward();
  EXPECT_EQ(linear->weight.grad().scalar_type(), torch::kFloat32);
  EXPECT_EQ(linear->bias.grad().scalar_type(), torch::kFloat32);
  EXPECT_EQ(input.grad().scalar_type(), torch::kBFloat16);
  auto wanted = input.detach().to(torch::kFloat32).sum(0).expand({3, 5});
  EXPECT_TRUE(torch::allclose(linear->weight.grad(), wanted, 1e-2, 1e-2));
}

TEST(LinearTest, ParametersHaveHuggingFaceNames) {
  auto names = small_linear(true)->named_parameters().keys();
  EXPECT_EQ(names, (std::vector<std::string>{"weight", "bias"}));
  EXPECT_EQ(small_linear(false)->named_parameters().keys(), std::vector<std::string>{"weight"});
}

TEST(LinearTest, ReleasedWeightIsNoParameterAndItsMemoryIsFree) {
  auto linear = small_linear(true);
  linear->set_method(std::make_shared<ConstantMethod>());
  c10::weak_intrusive_ptr<c10::StorageImpl> storage(linear->weight.storage().getWeakStorageImpl());
  linear->release_weight();
  EXPECT_TRUE(storage.expired());
  EXPECT_EQ(linear->named_parameters().keys(), std::vector<std::string>{"bias"});
  EXPECT_TRUE(linear->named_parameters()["bias"].defined());
  EXPECT_EQ(linear->forward(torch::zeros({2, 5})).sum().item<float>(), 42.0f);
}

TEST(LinearTest, SharedWeightIsUsedButNotRegistered) {
  auto linear = small_linear(false);
  auto embedding = torch::randn({3, 5}).set_requires_grad(true);
  linear->share_weight(embedding);
  EXPECT_EQ(linear->parameters().size(), 0u);
  linear->forward(torch::ones({1, 5})).sum().backward();
  EXPECT_TRUE(torch::equal(embedding.grad(), torch::ones({3, 5})));
}

TEST(LinearTest, MistakesAreNamed) {
  EXPECT_THROW(Linear(LinearOptions{.in_features = 0, .out_features = 3}), InvalidArgument);
  auto linear = small_linear(false);
  EXPECT_THROW(linear->forward(torch::zeros({2, 4})), InvalidArgument);
  EXPECT_THROW(linear->forward(torch::tensor(1.0f)), InvalidArgument);
  EXPECT_THROW(linear->set_method(nullptr), InvalidArgument);
  EXPECT_THROW(linear->share_weight(torch::zeros({5, 3})), InvalidArgument);
  linear->release_weight();
  try {
    linear->forward(torch::zeros({2, 5}));
    FAIL() << "the dense method ran without a weight";
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("released"), std::string::npos);
  }
}

}  // namespace
}  // namespace deepseek_train::ops
