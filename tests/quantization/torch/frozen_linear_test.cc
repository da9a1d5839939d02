#include "deepseek_train/quantization/torch/frozen_linear.h"

#include <gtest/gtest.h>

#include "deepseek_train/core/error.h"

namespace deepseek_train::quantization {
namespace {

std::shared_ptr<ops::Linear> make_linear() {
  torch::manual_seed(2);
  auto linear = std::make_shared<ops::Linear>(
      ops::LinearOptions{.in_features = 96, .out_features = 20, .bias = true});
  linear->reset_parameters(0.2);
  torch::NoGradGuard no_grad;
  linear->bias.normal_();
  return linear;
}

class FrozenLinearTest : public testing::TestWithParam<std::string> {
 protected:
  FrozenFormat format() const { return frozen_format_by_name(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(All, FrozenLinearTest, testing::Values("nf4", "nf4-double", "int8"),
                         [](const auto& info) {
                           return info.param == "nf4-double" ? std::string("nf4_double")
                                                             : info.param;
                         });

TEST_P(FrozenLinearTest, TheMatrixIsNearTheWeight) {
  auto linear = make_linear();
  auto method = make_frozen_linear(linear->weight, format());
  auto matrix = method->dense_weight({}, at::kFloat);
  auto error = (matrix - linear->weight).norm() / linear->weight.norm();
  EXPECT_LT(error.item<double>(), GetParam() == "int8" ? 0.01 : 0.11);
  EXPECT_GT(error.item<double>(), 0.0);
  auto narrow = method->dense_weight({}, at::kBFloat16);
  EXPECT_TRUE(torch::equal(narrow, matrix.to(at::kBFloat16)));
  EXPECT_LT(method->size_bytes(), 96 * 20 * (GetParam() == "int8" ? 1.05 : 0.57));
  EXPECT_THROW(method->dense_weight({}, at::kDouble), InvalidArgument);
}

TEST_P(FrozenLinearTest, OutputAndInputGradientAreThoseOfTheMatrix) {
  for (auto dtype : {at::kFloat, at::kBFloat16}) {
    auto linear = make_linear();
    auto method = make_frozen_linear(linear->weight, format());
    auto matrix = method->dense_weight({}, dtype);
    auto input = torch::randn({3, 4, 96}).to(dtype).set_requires_grad(true);
    auto same = input.detach().clone().set_requires_grad(true);
    auto found = method->apply(input, {}, linear->bias.detach());
    auto wanted = at::linear(same, matrix, linear->bias.detach().to(dtype));
    EXPECT_TRUE(torch::equal(found, wanted));
    auto gradient = torch::randn_like(found);
    found.backward(gradient);
    wanted.backward(gradient);
    EXPECT_TRUE(torch::allclose(input.grad(), same.grad(), 1e-2, 1e-5));
  }
}

TEST_P(FrozenLinearTest, AWholeModelIsPackedAndItsWeightsAreGivenUp) {
  auto root = std::make_shared<torch::nn::Module>();
  auto linear = root->register_module("proj", make_linear());
  root->register_module("lm_head", make_linear());
  auto model = freeze_linears(*root, format());
  EXPECT_EQ(model.names, std::vector<std::string>{"proj"});
  EXPECT_FALSE(linear->has_weight());
  EXPECT_EQ(root->named_parameters().keys(),
            (std::vector<std::string>{"proj.bias", "lm_head.weight", "lm_head.bias"}));
  EXPECT_EQ(linear->forward(torch::randn({2, 96})).size(1), 20);
  EXPECT_THROW(freeze_linears(*root, format()), InvalidArgument);
}

TEST(FrozenFormatTest, MistakesAreNamed) {
  EXPECT_THROW(frozen_format_by_name("fp4"), InvalidArgument);
  auto weight = torch::ones({4, 64});
  weight[1][2] = std::nan("");
  EXPECT_THROW(make_frozen_linear(weight, FrozenFormat::kNf4), InvalidArgument);
  EXPECT_THROW(make_frozen_linear(weight, FrozenFormat::kInt8), InvalidArgument);
  EXPECT_THROW(make_frozen_linear(torch::ones({4}), FrozenFormat::kNf4), InvalidArgument);
}

}  // namespace
}  // namespace deepseek_train::quantization
