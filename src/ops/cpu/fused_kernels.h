// The loops of ops/fused.h over plain memory. Row-major and dense; all work is done by the calling
// thread. Each exists for several instruction sets; fused_kernels() gives the best of this CPU.
#pragma once

#include <cstdint>

#include "deepseek_train/core/dtype.h"

namespace deepseek_train::ops {

template <typename T>
struct FusedKernels {
  // x [rows, columns] -> y; inverse [rows] = 1 / sqrt(mean(x^2) + eps).
  void (*rms_norm)(const T* x, const float* weight, int64_t rows, int64_t columns, float eps, T* y,
                   float* inverse);
  // gradient of y -> of x; adds to weight_gradient [columns] unless it is nullptr.
  void (*rms_norm_backward)(const T* gradient, const T* x, const float* weight,
                            const float* inverse, int64_t rows, int64_t columns, T* x_gradient,
                            float* weight_gradient);
  void (*swiglu)(const T* gate, const T* up, int64_t count, T* y);
  void (*swiglu_backward)(const T* gradient, const T* gate, const T* up, int64_t count,
                          T* gate_gradient, T* up_gradient);
  // One row of 2 * half values; `direction` 1 turns, -1 turns back.
  void (*rotate_halves)(const T* x, const T* cos, const T* sin, int64_t half, float direction,
                        T* y);
};

// For float and BFloat16.
template <typename T>
const FusedKernels<T>& fused_kernels();
}  // namespace deepseek_train::ops
