// Every engine against a naive integer loop, exactly.
#include <gtest/gtest.h>

#include "deepseek_train/core/error.h"
#include "deepseek_train/quantization/torch/int8_linear.h"

namespace deepseek_train::quantization {
namespace {

// [M, N] as fp32, the exact integer sum rounded once.
torch::Tensor naive_product(const torch::Tensor& x, const torch::Tensor& weight) {
  torch::Tensor product = torch::empty({x.size(0), weight.size(0)});
  auto in = x.accessor<uint8_t, 2>();
  auto w = weight.accessor<int8_t, 2>();
  auto out = product.accessor<float, 2>();
  for (int64_t m = 0; m < x.size(0); ++m) {
    for (int64_t n = 0; n < weight.size(0); ++n) {
      int64_t sum = 0;
      for (int64_t k = 0; k < x.size(1); ++k) sum += (int64_t{in[m][k]} - 128) * int64_t{w[n][k]};
      out[m][n] = static_cast<float>(sum);
    }
  }
  return product;
}

class Int8ProductTest : public testing::TestWithParam<Int8Engine> {};

TEST_P(Int8ProductTest, EqualsTheIntegerLoopExactly) {
  torch::manual_seed(2);
  for (auto [n, k] :
       {std::pair<int64_t, int64_t>{1, 1}, {3, 5}, {17, 64}, {64, 100}, {192, 576}, {33, 1000}}) {
    const torch::Tensor weight = torch::randint(-128, 128, {n, k}, torch::kInt8);
    const auto product = make_int8_product(weight, GetParam());
    for (int64_t m : {1, 2, 5, 33, 130}) {
      const torch::Tensor x = torch::randint(0, 256, {m, k}, torch::kUInt8);
      EXPECT_TRUE(torch::equal(product->multiply(x).to(torch::kFloat32), naive_product(x, weight)))
          << product->kernel() << " at " << m << " x " << k << " x " << n;
    }
  }
}

// Sums beyond 2^24, and pairs of products beyond 16 bits.
TEST_P(Int8ProductTest, ExtremeValuesDoNotSaturate) {
  for (int value : {-128, 127}) {
    const torch::Tensor weight = torch::full({70, 4096}, value, torch::kInt8);
    const auto product = make_int8_product(weight, GetParam());
    for (int byte : {0, 1, 255}) {
      for (int64_t m : {1, 40}) {
        const torch::Tensor x = torch::full({m, 4096}, byte, torch::kUInt8);
        EXPECT_TRUE(
            torch::equal(product->multiply(x).to(torch::kFloat32), naive_product(x, weight)))
            << product->kernel() << ": weights " << value << ", activations " << byte - 128;
      }
    }
  }
}

TEST_P(Int8ProductTest, ATransposedWeightIsReadByItsShapeNotItsMemory) {
  for (int64_t n : {8, 12}) {
    const torch::Tensor weight = torch::randint(-128, 128, {8, n}, torch::kInt8).t();
    const torch::Tensor x = torch::randint(0, 256, {4, 8}, torch::kUInt8);
    EXPECT_TRUE(torch::equal(make_int8_product(weight, GetParam())->multiply(x).to(torch::kFloat32),
                             naive_product(x, weight.contiguous())));
  }
}

TEST_P(Int8ProductTest, BadWeightsAreRefused) {
  EXPECT_THROW(make_int8_product(torch::Tensor(), GetParam()), InvalidArgument);
  EXPECT_THROW(make_int8_product(torch::zeros({4, 4}), GetParam()), InvalidArgument);
  EXPECT_THROW(make_int8_product(torch::zeros({4}, torch::kInt8), GetParam()), InvalidArgument);
  EXPECT_THROW(make_int8_product(torch::zeros({1, 70000}, torch::kInt8), GetParam()),
               InvalidArgument);
}

std::vector<Int8Engine> engines_of_this_machine() {
  std::vector<Int8Engine> engines = {Int8Engine::kPortable, Int8Engine::kAutomatic};
  try {
    make_int8_product(torch::zeros({1, 1}, torch::kInt8), Int8Engine::kOneDnn);
    engines.push_back(Int8Engine::kOneDnn);
  } catch (const Unavailable&) {
  }
  return engines;
}

#if defined(__x86_64__)
// The fast engine must not be lost silently, for instance to a changed operator signature.
TEST(Int8EngineTest, OneDnnIsChosenOnProcessorsWithIntegerInstructions) {
  if (!__builtin_cpu_supports("avx512vnni") || !at::globalContext().hasMKLDNN()) return;
  const auto product = make_int8_product(torch::zeros({1, 1}, torch::kInt8));
  EXPECT_EQ(product->kernel(), "onednn::qlinear_pointwise u8s8");
}
#endif

INSTANTIATE_TEST_SUITE_P(Engines, Int8ProductTest, testing::ValuesIn(engines_of_this_machine()));

}  // namespace
}  // namespace deepseek_train::quantization
