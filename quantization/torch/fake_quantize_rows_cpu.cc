#include <torch/torch.h>

#include "deepseek_train/core/error.h"
#include "deepseek_train/quantization/row_kernels.h"
#include "quantization/torch/fake_quantize_rows.h"
#include "quantization/torch/rows.h"

namespace deepseek_train::quantization {

at::Tensor fake_quantize_rows_cpu(const at::Tensor& x, at::ScalarType output_dtype) {
  DST_ASSERT(x.is_contiguous() && x.dim() > 0, "rows must be contiguous");
  const RowKernels& kernels = row_kernels();
  at::Tensor output = at::empty(x.sizes(), x.options().dtype(output_dtype));
  const int64_t columns = x.size(-1);
  const int64_t rows = columns == 0 ? 0 : x.numel() / columns;
  for_row_blocks(rows, columns, [&](int64_t first, int64_t count) {
    const int64_t offset = first * columns;
    if (x.scalar_type() == at::kBFloat16) {
      kernels.fake_quantize_bf16_bf16(bf16_data(x) + offset, count, columns,
                                      mutable_bf16_data(output) + offset);
    } else if (output_dtype == at::kBFloat16) {
      kernels.fake_quantize_f32_bf16(x.const_data_ptr<float>() + offset, count, columns,
                                     mutable_bf16_data(output) + offset);
    } else {
      kernels.fake_quantize_f32_f32(x.const_data_ptr<float>() + offset, count, columns,
                                    output.data_ptr<float>() + offset);
    }
  });
  return output;
}

}  // namespace deepseek_train::quantization
