#include "deepseek_train/quantization/torch/int8_linear.h"

#include <gtest/gtest.h>

#include "deepseek_train/core/error.h"
#include "deepseek_train/quantization/compressed_tensors.h"
#include "deepseek_train/quantization/torch/fake_quantize.h"

namespace deepseek_train::quantization {
namespace {

double relative_error(const torch::Tensor& found, const torch::Tensor& wanted) {
  const torch::Tensor reference = wanted.to(torch::kFloat64);
  return ((found.to(torch::kFloat64) - reference).norm() / reference.norm()).item<double>();
}

struct Layer {
  torch::Tensor weight;
  torch::Tensor bias;

  Layer(int64_t n, int64_t k) {
    torch::manual_seed(n + k);
    weight = torch::randn({n, k}) * 0.05;
    bias = torch::randn({n});
  }
  Int8LinearMethod int8(Int8Engine engine = Int8Engine::kAutomatic) const {
    const Int8Weight quantized = quantize_channels(weight);
    return Int8LinearMethod(quantized.values, quantized.scales, nullptr, engine);
  }
  torch::Tensor fake(const torch::Tensor& input) const {
    return FakeQuantizedLinearMethod(w8a8()).apply(input, weight, bias);
  }
};

TEST(Int8LinearTest, EqualsTheFakeQuantizedLayer) {
  torch::NoGradGuard no_grad;
  for (auto [n, k] : {std::pair<int64_t, int64_t>{192, 576}, {576, 1536}, {10, 7}, {1, 64}}) {
    const Layer layer(n, k);
    for (Int8Engine engine : {Int8Engine::kAutomatic, Int8Engine::kPortable}) {
      Int8LinearMethod method = layer.int8(engine);
      for (int64_t m : {1, 3, 64, 200}) {
        const torch::Tensor input = torch::randn({m, k}) * torch::logspace(-3, 3, m).unsqueeze(1);
        const torch::Tensor output = method.apply(input, torch::Tensor(), layer.bias);
        EXPECT_EQ(output.scalar_type(), torch::kFloat32);
        // Per token: their sizes differ by 10^6.
        for (int64_t i = 0; i < m; i += 17)
          EXPECT_LT(relative_error(output[i], layer.fake(input)[i]), 1e-6);
      }
    }
  }
}

// bf16 differs by the rounding of the output alone: the sums inside stay exact.
TEST(Int8LinearTest, Bf16OutputIsTheFp32ResultRoundedOnce) {
  torch::NoGradGuard no_grad;
  const Layer layer(96, 320);
  Int8LinearMethod method = layer.int8();
  const torch::Tensor input = torch::randn({33, 320}).to(torch::kBFloat16);
  const torch::Tensor output = method.apply(input, torch::Tensor(), layer.bias);
  ASSERT_EQ(output.scalar_type(), torch::kBFloat16);
  const torch::Tensor wide = method.apply(input.to(torch::kFloat32), torch::Tensor(), layer.bias);
  EXPECT_TRUE(torch::equal(output, wide.to(torch::kBFloat16)));
}

TEST(Int8LinearTest, IsFarCloserToTheFakeQuantizedThanToTheDenseLayer) {
  torch::NoGradGuard no_grad;
  const Layer layer(256, 512);
  const torch::Tensor input = torch::randn({64, 512});
  const torch::Tensor output = layer.int8().apply(input, torch::Tensor(), layer.bias);
  const double error = relative_error(output, at::linear(input, layer.weight, layer.bias));
  EXPECT_GT(error, 1e-3);  // it does round
  EXPECT_LT(error, 2e-2);
}

TEST(Int8LinearTest, ShapesWithManyAxesNoTokensAndNoBias) {
  torch::NoGradGuard no_grad;
  const Layer layer(6, 20);
  Int8LinearMethod method = layer.int8();
  const torch::Tensor input = torch::randn({2, 3, 20});
  const torch::Tensor output = method.apply(input, torch::Tensor(), torch::Tensor());
  ASSERT_EQ(output.sizes(), torch::IntArrayRef({2, 3, 6}));
  EXPECT_TRUE(torch::allclose(output, layer.fake(input) - layer.bias, 1e-4, 1e-5));
  EXPECT_EQ(method.apply(torch::empty({0, 20}), {}, {}).sizes(), torch::IntArrayRef({0, 6}));
  EXPECT_EQ(method.apply(torch::randn({20}), {}, {}).sizes(), torch::IntArrayRef({6}));
  const torch::Tensor transposed = torch::randn({20, 5}).t();
  EXPECT_TRUE(torch::equal(method.apply(transposed, {}, {}),
                           method.apply(transposed.contiguous(), {}, {})));
}

// More output than one block holds: the seams must not show.
TEST(Int8LinearTest, LargeProductsAreDoneInBlocks) {
  torch::NoGradGuard no_grad;
  const Layer layer(20000, 16);
  Int8LinearMethod method = layer.int8();
  const torch::Tensor input = torch::randn({200, 16});
  const torch::Tensor output = method.apply(input, torch::Tensor(), layer.bias);
  EXPECT_EQ(method.counter().count(), 1);
  for (int64_t row : {0, 1, 126, 127, 128, 129, 199}) {
    EXPECT_TRUE(torch::equal(output[row], method.apply(input[row], torch::Tensor(), layer.bias)))
        << row;
    EXPECT_LT(relative_error(output[row], layer.fake(input)[row]), 1e-6) << row;
  }
}

TEST(Int8LinearTest, NanReachesTheOutputOfItsTokenOnly) {
  torch::NoGradGuard no_grad;
  const Layer layer(8, 40);
  torch::Tensor input = torch::randn({3, 40});
  input[1][39] = std::numeric_limits<float>::quiet_NaN();
  const torch::Tensor output = layer.int8().apply(input, torch::Tensor(), layer.bias);
  EXPECT_TRUE(output[1].isnan().all().item<bool>());
  EXPECT_FALSE(output[0].isnan().any().item<bool>() || output[2].isnan().any().item<bool>());
}

TEST(Int8LinearTest, CountsItsProductsAndNamesItsKernel) {
  torch::NoGradGuard no_grad;
  const Layer layer(8, 16);
  const Int8Weight weight = quantize_channels(layer.weight);
  const auto counter = std::make_shared<Int8ProductCounter>();
  Int8LinearMethod first(weight.values, weight.scales, counter),
      second(weight.values, weight.scales, counter);
  for (int i = 0; i < 3; ++i) first.apply(torch::ones({2, 16}), {}, {});
  second.apply(torch::ones({2, 16}), {}, {});
  EXPECT_EQ(counter->count(), 4);
  EXPECT_NE(first.name().find("u8s8"), std::string::npos) << first.name();
  EXPECT_NE(layer.int8(Int8Engine::kPortable).name().find("portable"), std::string::npos);
}

TEST(Int8LinearTest, WeightsAreThoseOfTheExporter) {
  const Layer layer(31, 65);
  const Int8Weight ours = quantize_channels(layer.weight);
  const QuantizedWeight exported = quantize_weight(
      {layer.weight.const_data_ptr<float>(), static_cast<size_t>(layer.weight.numel())}, 31, 65);
  EXPECT_EQ(0,
            memcmp(ours.values.const_data_ptr(), exported.values.data(), exported.values.size()));
  EXPECT_EQ(0, memcmp(ours.scales.const_data_ptr(), exported.scales.data(), 31 * sizeof(float)));
  // And those of fake quantization.
  const torch::Tensor restored = ours.values.to(torch::kFloat32) * ours.scales;
  EXPECT_TRUE(torch::equal(restored, fake_quantize_channels(layer.weight, torch::kFloat32)));
}

TEST(Int8LinearTest, MistakesAreNamed) {
  const Layer layer(8, 16);
  Int8LinearMethod method = layer.int8();
  EXPECT_THROW(method.apply(torch::ones({2, 16}).set_requires_grad(true), {}, {}), InvalidArgument);
  EXPECT_THROW(method.apply(torch::ones({2, 15}), {}, {}), InvalidArgument);
  EXPECT_THROW(method.apply(torch::ones({2, 16}, torch::kHalf), {}, {}), InvalidArgument);
  const Int8Weight weight = quantize_channels(layer.weight);
  EXPECT_THROW(Int8LinearMethod(weight.values, torch::ones({7})), InvalidArgument);
  EXPECT_THROW(Int8LinearMethod(weight.values, weight.scales.to(torch::kBFloat16)),
               InvalidArgument);
  EXPECT_THROW(Int8LinearMethod(weight.values, torch::Tensor()), InvalidArgument);
  torch::Tensor spoilt = layer.weight.clone();
  spoilt[3][3] = INFINITY;
  EXPECT_THROW(quantize_channels(spoilt), InvalidArgument);
  EXPECT_THROW(quantize_channels(layer.weight.to(torch::kBFloat16)), InvalidArgument);
}

}  // namespace
}  // namespace deepseek_train::quantization
