// Handing the rows of tensors to the engine's kernels.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>

#include "deepseek_train/core/dtype.h"

namespace deepseek_train::quantization {

// Calls work(first_row, num_rows) on libtorch's threads; a thread gets enough values to be worth
// waking.
template <typename Work>
void for_row_blocks(int64_t rows, int64_t columns, const Work& work) {
  constexpr int64_t kMinValuesPerThread = 1 << 15;
  const int64_t grain = std::max<int64_t>(1, kMinValuesPerThread / std::max<int64_t>(1, columns));
  at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) { work(begin, end - begin); });
}

// libtorch's bf16 and ours are both the 16 bits alone.
inline const BFloat16* bf16_data(const at::Tensor& tensor) {
  return reinterpret_cast<const BFloat16*>(tensor.const_data_ptr<at::BFloat16>());
}
inline BFloat16* mutable_bf16_data(const at::Tensor& tensor) {
  return reinterpret_cast<BFloat16*>(tensor.data_ptr<at::BFloat16>());
}

}  // namespace deepseek_train::quantization
