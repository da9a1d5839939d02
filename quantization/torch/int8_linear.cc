#include "deepseek_train/quantization/torch/int8_linear.h"

#include <utility>

#include "deepseek_train/core/error.h"
#include "deepseek_train/quantization/row_kernels.h"
#include "quantization/torch/rows.h"

namespace deepseek_train::quantization {

struct Int8LinearMethod::QuantizedTokens {
  torch::Tensor values;  // [M, K] uint8
  torch::Tensor scales;  // [M] fp32
};

namespace {

// A wide layer (lm_head) is packed in slices, and a slice multiplied with a block of tokens at a
// time: the block of products is then still in the cache when it is scaled, and the slice of
// weights when the next tokens come. A slice costs one more call, some 10 us, which a single token
// would feel if they were narrower.
constexpr int64_t kSliceFeatures = 8192;
constexpr int64_t kMaxProductBytes = 4 << 20;

// One row of the product, int32 or fp32, scaled into a row of the output, fp32 or bf16.
void rescale_row(const torch::Tensor& product, int64_t row, const OutputScales& scales,
                 const torch::Tensor& output, int64_t output_offset) {
  const RowKernels& kernels = row_kernels();
  const int64_t columns = product.size(1), offset = row * columns;
  const bool to_bf16 = output.scalar_type() == torch::kBFloat16;
  if (product.scalar_type() == torch::kInt32) {
    const int32_t* values = product.const_data_ptr<int32_t>() + offset;
    if (to_bf16) {
      kernels.rescale_s32_bf16(values, 1, columns, scales,
                               mutable_bf16_data(output) + output_offset);
    } else {
      kernels.rescale_s32_f32(values, 1, columns, scales, output.data_ptr<float>() + output_offset);
    }
  } else {
    const float* values = product.const_data_ptr<float>() + offset;
    if (to_bf16) {
      kernels.rescale_f32_bf16(values, 1, columns, scales,
                               mutable_bf16_data(output) + output_offset);
    } else {
      kernels.rescale_f32_f32(values, 1, columns, scales, output.data_ptr<float>() + output_offset);
    }
  }
}

}  // namespace

Int8LinearMethod::Int8LinearMethod(const torch::Tensor& weight, const torch::Tensor& scale,
                                   std::shared_ptr<Int8ProductCounter> counter, Int8Engine engine)
    : counter_(counter ? std::move(counter) : std::make_shared<Int8ProductCounter>()) {
  DST_CHECK(weight.defined() && weight.dim() == 2 && weight.numel() > 0,
            "an INT8 layer needs a weight [N, K]");
  out_features_ = weight.size(0);
  in_features_ = weight.size(1);
  DST_CHECK(
      scale.defined() && scale.scalar_type() == torch::kFloat32 && scale.numel() == out_features_,
      "an INT8 weight of ", out_features_, " channels got ", scale.defined() ? scale.numel() : 0,
      scale.defined() ? concat(" scales of type ", c10::toString(scale.scalar_type())) : " scales",
      "; wanted one fp32 scale per channel");
  scale_ = scale.detach().reshape({-1}).clone();
  for (int64_t first = 0; first < out_features_; first += kSliceFeatures) {
    const int64_t count = std::min(kSliceFeatures, out_features_ - first);
    slices_.push_back(make_int8_product(weight.narrow(0, first, count), engine));
  }
}

torch::Tensor Int8LinearMethod::apply(const torch::Tensor& input, const torch::Tensor&,
                                      const torch::Tensor& bias) {
  DST_CHECK(
      !(torch::GradMode::is_enabled() && input.requires_grad()),
      "an INT8 layer has no gradient; run it under torch::NoGradGuard, or train with prepare_qat");
  DST_CHECK(input.scalar_type() == torch::kFloat32 || input.scalar_type() == torch::kBFloat16,
            "an INT8 layer got ", c10::toString(input.scalar_type()),
            " input; wanted fp32 or bf16");
  DST_CHECK(input.is_cpu() && input.dim() > 0 && input.size(-1) == in_features_,
            "an INT8 layer got input of shape ", input.sizes().vec(), "; wanted [..., ",
            in_features_, "] on the CPU");
  torch::NoGradGuard no_grad;
  std::vector<int64_t> shape = input.sizes().vec();
  shape.back() = out_features_;
  const torch::Tensor output = torch::empty(shape, input.options().requires_grad(false));
  if (output.numel() == 0) return output;
  const QuantizedTokens tokens = quantize_tokens(input.contiguous().view({-1, in_features_}));
  const torch::Tensor wide_bias = bias.defined() ? bias.to(torch::kFloat32).contiguous() : bias;
  for (size_t slice = 0; slice < slices_.size(); ++slice)
    multiply_slice(slice, tokens, wide_bias, output);
  counter_->add_one();
  return output;
}

Int8LinearMethod::QuantizedTokens Int8LinearMethod::quantize_tokens(const torch::Tensor& input) {
  const RowKernels& kernels = row_kernels();
  const int64_t rows = input.size(0), columns = input.size(1);
  QuantizedTokens tokens{torch::empty({rows, columns}, torch::kUInt8),
                         torch::empty({rows}, torch::kFloat32)};
  uint8_t* values = tokens.values.data_ptr<uint8_t>();
  float* scales = tokens.scales.data_ptr<float>();
  for_row_blocks(rows, columns, [&](int64_t first, int64_t count) {
    const int64_t offset = first * columns;
    if (input.scalar_type() == torch::kBFloat16) {
      kernels.quantize_bf16_u8(bf16_data(input) + offset, count, columns, values + offset,
                               scales + first);
    } else {
      kernels.quantize_f32_u8(input.const_data_ptr<float>() + offset, count, columns,
                              values + offset, scales + first);
    }
  });
  return tokens;
}

void Int8LinearMethod::multiply_slice(size_t slice, const QuantizedTokens& tokens,
                                      const torch::Tensor& bias,
                                      const torch::Tensor& output) const {
  const int64_t first_feature = static_cast<int64_t>(slice) * kSliceFeatures;
  const int64_t num_features = std::min(kSliceFeatures, out_features_ - first_feature);
  const int64_t num_tokens = tokens.values.size(0);
  const int64_t block = std::max<int64_t>(1, kMaxProductBytes / (4 * num_features));
  for (int64_t begin = 0; begin < num_tokens; begin += block) {
    const int64_t count = std::min(block, num_tokens - begin);
    const torch::Tensor product = slices_[slice]->multiply(tokens.values.narrow(0, begin, count));
    for_row_blocks(count, num_features, [&](int64_t first, int64_t rows) {
      for (int64_t row = first; row < first + rows; ++row) {
        const OutputScales scales{
            .rows = tokens.scales.const_data_ptr<float>() + begin + row,
            .channels = scale_.const_data_ptr<float>() + first_feature,
            .bias = bias.defined() ? bias.const_data_ptr<float>() + first_feature : nullptr};
        rescale_row(product, row, scales, output, (begin + row) * out_features_ + first_feature);
      }
    });
  }
}

std::string Int8LinearMethod::name() const {
  return concat("int8 w8a8 (", slices_.front()->kernel(), ", rows ", name_of(row_kernels().level),
                ")");
}

Int8Weight quantize_channels(const torch::Tensor& weight) {
  DST_CHECK(weight.defined() && weight.scalar_type() == torch::kFloat32 && weight.dim() == 2 &&
                weight.is_cpu(),
            "quantize_channels wants a weight [N, K] fp32 on the CPU");
  const torch::Tensor rows = weight.detach().contiguous();
  const int64_t columns = rows.size(1);
  Int8Weight result{torch::empty(rows.sizes(), torch::kInt8),
                    torch::empty({rows.size(0), 1}, torch::kFloat32)};
  for_row_blocks(rows.size(0), columns, [&](int64_t first, int64_t count) {
    row_kernels().quantize_f32_s8(rows.const_data_ptr<float>() + first * columns, count, columns,
                                  result.values.data_ptr<int8_t>() + first * columns,
                                  result.scales.data_ptr<float>() + first);
  });
  DST_CHECK(result.scales.isfinite().all().item<bool>(),
            "a weight holds a NaN or an infinity and cannot be quantized. Did training diverge?");
  return result;
}

}  // namespace deepseek_train::quantization
