#include "quantization/encodings/fp8_block/folder_conversion.h"

#include <algorithm>

#include "deepseek_train/core/parallel.h"

namespace deepseek_train::quantization {

void for_each_band(const Fp8BlockShape& shape, int num_threads,
                   const std::function<void(const Band&)>& work) {
  constexpr int64_t kValuesInBand = 1 << 20;
  const int64_t row_values = std::max<int64_t>(1, shape.columns) * kFp8BlockSize;
  const int64_t band_blocks = std::max<int64_t>(1, kValuesInBand / row_values);
  const int64_t count = (shape.block_rows() + band_blocks - 1) / band_blocks;
  parallel_for(count, num_threads, [&](int64_t i) {
    const int64_t first_row = i * band_blocks * kFp8BlockSize;
    const int64_t rows = std::min(band_blocks * kFp8BlockSize, shape.rows - first_row);
    work({{rows, shape.columns},
          first_row,
          first_row * shape.columns,
          i * band_blocks * shape.block_columns()});
  });
}

}  // namespace deepseek_train::quantization
