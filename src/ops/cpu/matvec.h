// Products of a weight matrix with one vector: what decoding a single sequence spends its time on.
// Bound by the memory that the weights are read from, which general matrix products do not reach
// at one row.
#pragma once

#include <cstdint>

namespace deepseek_train::ops {

struct bfloat16_bits {
  uint16_t bits;
};

// y[n] = sum over k of weight[n * K + k] * x[k] for `rows` rows of K values, summed in float32, in
// an order of its own that depends on the processor's vectors. Thread-safe; the caller divides the
// rows over threads. Weights are read once.
void matvec(const float* weight, const float* x, int64_t rows, int64_t K, float* y);
void matvec(const bfloat16_bits* weight, const float* x, int64_t rows, int64_t K, float* y);

}  // namespace deepseek_train::ops
