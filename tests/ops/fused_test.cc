// The fused operations against the formulas in float64, and gradients by libtorch's own autograd.
#include "deepseek_train/ops/fused.h"

#include <gtest/gtest.h>

namespace deepseek_train::ops {
namespace {

using Inputs = std::vector<torch::Tensor>;
using Operation = std::function<torch::Tensor(const Inputs&)>;

// Output and gradients of `found`, in the inputs' types, against `wanted` on the same values in
// float64.
void expect_same(const Operation& found, const Operation& wanted, const Inputs& inputs,
                 double tolerance) {
  Inputs exact;
  for (const auto& input : inputs)
    exact.push_back(input.detach().to(at::kDouble).set_requires_grad(input.requires_grad()));
  auto y = found(inputs), exact_y = wanted(exact);
  ASSERT_EQ(y.sizes(), exact_y.sizes());
  auto weights = torch::randn(y.sizes()).to(y.scalar_type());
  (y * weights).sum().backward();
  (exact_y * weights.to(at::kDouble)).sum().backward();
  auto check = [&](const torch::Tensor& a, const torch::Tensor& b) {
    if (b.numel() == 0) return;
    const double largest = b.abs().max().item<double>();
    EXPECT_LE((a.to(at::kDouble) - b).abs().max().item<double>(), tolerance * largest + 1e-30);
  };
  check(y.detach(), exact_y.detach());
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].requires_grad()) continue;
    SCOPED_TRACE(i);
    EXPECT_EQ(inputs[i].grad().scalar_type(), inputs[i].scalar_type());
    check(inputs[i].grad(), exact[i].grad());
  }
}

struct Kind {
  at::ScalarType dtype;
  double tolerance;
};

class FusedTest : public testing::TestWithParam<Kind> {
 protected:
  FusedTest() { torch::manual_seed(11); }
  torch::Tensor random(at::IntArrayRef sizes) const {
    return torch::randn(sizes).to(GetParam().dtype).set_requires_grad(true);
  }
};

INSTANTIATE_TEST_SUITE_P(All, FusedTest,
                         testing::Values(Kind{at::kFloat, 2e-6}, Kind{at::kBFloat16, 1e-2}));

// Rows of one value are left out: all but eps of their gradient cancels.
TEST_P(FusedTest, RmsNorm) {
  constexpr double kEps = 1e-5;
  for (const auto& sizes : std::vector<std::vector<int64_t>>{
           {1, 3}, {3, 5}, {2, 3, 64}, {130, 33}, {200, 96}, {0, 8}}) {
    auto weight = torch::randn({sizes.back()}).set_requires_grad(true);
    expect_same([&](const Inputs& in) { return rms_norm(in[0], in[1], kEps); },
                [&](const Inputs& in) {
                  return in[0] * torch::rsqrt(in[0].pow(2).mean(-1, true) + kEps) * in[1];
                },
                {random(sizes), weight}, GetParam().tolerance);
  }
}

TEST_P(FusedTest, RmsNormOfAFrozenWeight) {
  expect_same([](const Inputs& in) { return rms_norm(in[0], in[1], 1e-6); },
              [](const Inputs& in) {
                return in[0] * torch::rsqrt(in[0].pow(2).mean(-1, true) + 1e-6) * in[1];
              },
              {random({7, 40}), torch::randn({40}).to(GetParam().dtype)}, GetParam().tolerance);
}

TEST_P(FusedTest, Swiglu) {
  for (int64_t count : {0, 1, 31, 64, 70000}) {
    auto gate = (torch::randn({count}) * 8).to(GetParam().dtype).set_requires_grad(true);
    expect_same([](const Inputs& in) { return swiglu(in[0], in[1]); },
                [](const Inputs& in) { return torch::silu(in[0]) * in[1]; },
                {gate, random({count})}, GetParam().tolerance);
  }
}

TEST_P(FusedTest, SwigluOfExtremeValuesIsFinite) {
  auto gate = torch::tensor({-1e30f, -200.0f, -88.0f, 88.0f, 200.0f, 1e30f}).to(GetParam().dtype);
  auto y = swiglu(gate, torch::ones_like(gate)).to(at::kFloat);
  auto wanted = torch::silu(gate.to(at::kFloat));
  EXPECT_TRUE(torch::allclose(y, wanted, 1e-2, 1e-6)) << y << wanted;
  auto nan = torch::full({3}, std::nan("")).to(GetParam().dtype);
  EXPECT_TRUE(swiglu(nan, torch::ones_like(nan)).isnan().all().item<bool>());
}

TEST_P(FusedTest, RotateHalves) {
  for (bool transposed : {false, true}) {
    const int64_t B = 2, H = 3, T = 5, E = 36;
    auto x = transposed ? random({B, T, H, E}) : random({B, H, T, E});
    auto angles = torch::randn({T, E / 2});
    auto both = torch::cat({angles, angles}, -1);
    auto seen = [&](const torch::Tensor& in) { return transposed ? in.transpose(1, 2) : in; };
    expect_same([&](const Inputs& in) { return rotate_halves(seen(in[0]), in[1], in[2]); },
                [&](const Inputs& in) {
                  auto halves = seen(in[0]).chunk(2, -1);
                  return seen(in[0]) * in[1] + torch::cat({-halves[1], halves[0]}, -1) * in[2];
                },
                {x, both.cos().to(GetParam().dtype), both.sin().to(GetParam().dtype)},
                GetParam().tolerance);
  }
}

TEST(FusedTypesTest, OtherTypesTakeLibtorchsOperations) {
  auto x = torch::randn({2, 3, 4, 8}, at::kDouble), weight = torch::randn({8}, at::kDouble);
  EXPECT_EQ(rms_norm(x, weight, 1e-6).scalar_type(), at::kDouble);
  EXPECT_TRUE(torch::equal(swiglu(x, x), torch::silu(x) * x));
  EXPECT_EQ(rotate_halves(x, torch::ones({4, 8}, at::kDouble), torch::zeros({4, 8}, at::kDouble))
                .sub(x)
                .abs()
                .max()
                .item<double>(),
            0);
}

TEST(FusedThreadsTest, TheGradientOfTheWeightIsTheSameForAnyNumberOfThreads) {
  const int before = torch::get_num_threads();
  auto x = torch::randn({500, 24}), gradient = torch::randn({500, 24});
  std::vector<torch::Tensor> found;
  for (int threads : {1, 2}) {
    torch::set_num_threads(threads);
    auto weight = torch::ones({24}).set_requires_grad(true);
    (rms_norm(x, weight, 1e-6) * gradient).sum().backward();
    found.push_back(weight.grad());
  }
  torch::set_num_threads(before);
  EXPECT_TRUE(torch::equal(found[0], found[1]));
}

}  // namespace
}  // namespace deepseek_train::ops
