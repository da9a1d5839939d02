#include "deepseek_train/quantization/torch/fake_quantize.h"

#include <gtest/gtest.h>

#include <cmath>

#include "deepseek_train/core/error.h"
#include "quantization/torch/fake_quantize_rows.h"

namespace deepseek_train::quantization {
namespace {

// Rows of all sizes, one of zeros; large enough that several threads share them.
torch::Tensor hard_rows(int64_t rows, int64_t columns) {
  torch::manual_seed(11);
  torch::Tensor x = torch::randn({rows, columns}) * torch::logspace(-30, 30, rows).unsqueeze(1);
  x[rows / 2].zero_();
  return x;
}

torch::Tensor naive(const torch::Tensor& x) {
  torch::Tensor result = torch::empty_like(x);
  auto in = x.accessor<float, 2>();
  auto out = result.accessor<float, 2>();
  for (int64_t r = 0; r < x.size(0); ++r) {
    float absmax = 0;
    for (int64_t c = 0; c < x.size(1); ++c) absmax = std::max(absmax, std::fabs(in[r][c]));
    const float scale = absmax == 0 ? std::numeric_limits<float>::epsilon() : absmax / 127.5f;
    for (int64_t c = 0; c < x.size(1); ++c) {
      out[r][c] = std::nearbyint(std::clamp(in[r][c] / scale, -128.0f, 127.0f)) * scale;
    }
  }
  return result;
}

TEST(FakeQuantizeTest, EqualsTheNaiveLoop) {
  for (int64_t columns : {1, 33, 576}) {
    const torch::Tensor x = hard_rows(300, columns);
    const torch::Tensor wanted = naive(x);
    EXPECT_TRUE(torch::equal(fake_quantize_channels(x, torch::kFloat32), wanted));
    EXPECT_TRUE(
        torch::equal(fake_quantize_channels(x, torch::kBFloat16), wanted.to(torch::kBFloat16)));
    EXPECT_TRUE(torch::equal(fake_quantize_tokens(x), wanted));
    const torch::Tensor half = x.to(torch::kBFloat16);
    EXPECT_TRUE(torch::equal(fake_quantize_tokens(half),
                             naive(half.to(torch::kFloat32)).to(torch::kBFloat16)));
  }
}

TEST(FakeQuantizeTest, TheEagerPathHasTheSameBits) {
  const torch::Tensor x = hard_rows(200, 100);
  for (const torch::Tensor& input : {x, x.to(torch::kBFloat16)}) {
    const torch::Tensor eager = fake_quantize_rows_eager(input, torch::kBFloat16);
    const torch::Tensor fast = fake_quantize_rows_cpu(input, torch::kBFloat16);
    EXPECT_TRUE(torch::equal(eager.view(torch::kInt16), fast.view(torch::kInt16)));
  }
  EXPECT_TRUE(torch::equal(fake_quantize_rows_eager(x, torch::kFloat32).view(torch::kInt32),
                           fake_quantize_rows_cpu(x, torch::kFloat32).view(torch::kInt32)));
  EXPECT_EQ(fake_quantize_rows_eager(x.narrow(1, 0, 0), torch::kFloat32).numel(), 0);
}

TEST(FakeQuantizeTest, TokensHaveScalesOfTheirOwnInAnyShape) {
  const torch::Tensor x = hard_rows(24, 50);
  const torch::Tensor wanted = naive(x);
  EXPECT_TRUE(
      torch::equal(fake_quantize_tokens(x.view({2, 3, 4, 50})), wanted.view({2, 3, 4, 50})));
  EXPECT_TRUE(torch::equal(fake_quantize_tokens(x[3]), wanted[3]));
  // Not contiguous: the scales still belong to the last axis.
  const torch::Tensor transposed = x.t().contiguous().t();
  EXPECT_TRUE(torch::equal(fake_quantize_tokens(transposed), wanted));
  EXPECT_EQ(fake_quantize_tokens(torch::empty({0, 50})).sizes(), torch::IntArrayRef({0, 50}));
}

TEST(FakeQuantizeTest, GradientPassesStraightThrough) {
  const torch::Tensor upstream = torch::randn({40, 30});
  for (auto compute : {torch::kFloat32, torch::kBFloat16}) {
    torch::Tensor weight = hard_rows(40, 30).set_requires_grad(true);
    fake_quantize_channels(weight, compute).backward(upstream.to(compute));
    EXPECT_EQ(weight.grad().scalar_type(), torch::kFloat32);
    EXPECT_TRUE(torch::equal(weight.grad(), upstream.to(compute).to(torch::kFloat32)));

    torch::Tensor x = hard_rows(40, 30).to(compute).set_requires_grad(true);
    fake_quantize_tokens(x).backward(upstream.to(compute));
    EXPECT_TRUE(torch::equal(x.grad(), upstream.to(compute)));
  }
}

// The whole layer: its gradients are those of the product of the rounded values.
TEST(FakeQuantizeTest, LayerGradientsAreThoseOfTheRoundedProduct) {
  torch::manual_seed(5);
  ops::Linear linear({.in_features = 64, .out_features = 48, .bias = true});
  linear.reset_parameters(0.1);
  linear.set_method(std::make_shared<FakeQuantizedLinearMethod>(w8a8()));
  torch::Tensor input = torch::randn({2, 7, 64}).set_requires_grad(true);
  const torch::Tensor output = linear.forward(input);
  const torch::Tensor upstream = torch::randn_like(output);
  output.backward(upstream);

  const torch::Tensor x = naive(input.detach().view({14, 64})), w = naive(linear.weight.detach());
  const torch::Tensor dy = upstream.view({14, 48});
  EXPECT_TRUE(torch::allclose(output.detach().view({14, 48}),
                              at::linear(x, w, linear.bias.detach()), 1e-5, 1e-6));
  EXPECT_TRUE(torch::allclose(linear.weight.grad(), dy.t().mm(x), 1e-5, 1e-5));
  EXPECT_TRUE(torch::allclose(input.grad().view({14, 64}), dy.mm(w), 1e-5, 1e-5));
  EXPECT_TRUE(torch::allclose(linear.bias.grad(), dy.sum(0), 1e-5, 1e-5));
  // Rounding is there: the plain layer's output is close, not equal.
  linear.set_method(ops::dense_linear_method());
  const torch::Tensor difference = (linear.forward(input) - output).abs();
  EXPECT_GT(difference.max().item<float>(), 1e-5);
  EXPECT_LT(difference.max().item<float>(), 0.1);
}

TEST(FakeQuantizeTest, Bf16LayerComputesInBf16) {
  torch::manual_seed(6);
  ops::Linear linear({.in_features = 32, .out_features = 16});
  linear.reset_parameters(0.1);
  linear.set_method(std::make_shared<FakeQuantizedLinearMethod>(w8a8()));
  const torch::Tensor input = torch::randn({5, 32}).to(torch::kBFloat16).set_requires_grad(true);
  const torch::Tensor output = linear.forward(input);
  ASSERT_EQ(output.scalar_type(), torch::kBFloat16);
  const torch::Tensor wanted =
      at::linear(fake_quantize_tokens(input.detach()),
                 fake_quantize_channels(linear.weight.detach(), torch::kBFloat16));
  EXPECT_TRUE(torch::equal(output, wanted));
  output.sum().backward();
  EXPECT_EQ(linear.weight.grad().scalar_type(), torch::kFloat32);
  EXPECT_EQ(input.grad().scalar_type(), torch::kBFloat16);
}

// A second step must meet the weight that the optimizer changed in place.
TEST(FakeQuantizeTest, AChangedWeightIsQuantizedAnew) {
  ops::Linear linear({.in_features = 8, .out_features = 4});
  linear.reset_parameters(1.0);
  linear.set_method(std::make_shared<FakeQuantizedLinearMethod>(w8a8()));
  torch::NoGradGuard no_grad;
  const torch::Tensor input = torch::randn({3, 8});
  const torch::Tensor before = linear.forward(input).clone();
  linear.weight.mul_(2);
  EXPECT_TRUE(torch::allclose(linear.forward(input), before * 2, 1e-5, 1e-6));
}

TEST(FakeQuantizeTest, NanIsNotHidden) {
  torch::Tensor x = torch::ones({2, 40});
  x[1][17] = NAN;
  const torch::Tensor output = fake_quantize_tokens(x);
  EXPECT_TRUE(output[1].isnan().all().item<bool>());
  EXPECT_FALSE(output[0].isnan().any().item<bool>());
}

TEST(FakeQuantizeTest, MistakesAreNamed) {
  EXPECT_THROW(fake_quantize_channels(torch::ones({4}), torch::kFloat32), InvalidArgument);
  EXPECT_THROW(fake_quantize_channels(torch::ones({4, 4}, torch::kBFloat16), torch::kBFloat16),
               InvalidArgument);
  EXPECT_THROW(fake_quantize_channels(torch::ones({4, 4}), torch::kHalf), InvalidArgument);
  EXPECT_THROW(fake_quantize_tokens(torch::ones({4, 4}, torch::kHalf)), InvalidArgument);
  EXPECT_THROW(fake_quantize_tokens(torch::tensor(1.0f)), InvalidArgument);
  QuantizationScheme scheme = w8a8();
  scheme.weights.num_bits = 4;
  EXPECT_THROW(FakeQuantizedLinearMethod{scheme}, InvalidArgument);
  FakeQuantizedLinearMethod method(w8a8());
  EXPECT_THROW(method.apply(torch::ones({2, 4}), torch::Tensor(), torch::Tensor()),
               InvalidArgument);
}

}  // namespace
}  // namespace deepseek_train::quantization
