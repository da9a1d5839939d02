// The functions of fused_kernels.h for one instruction set.
#pragma once

#include "src/ops/cpu/fused_kernels.h"
#include "src/ops/cpu/fused_loops.h"

// One set of functions for an instruction set: the attribute reaches the loops by inlining. The
// pointers never overlap.
#define DST_FUSED_KERNELS(Name, attribute)                                                        \
  template <typename T>                                                                           \
  struct Name {                                                                                   \
    attribute static void rms_norm(const T* __restrict x, const float* __restrict weight,         \
                                   int64_t rows, int64_t columns, float eps, T* __restrict y,     \
                                   float* __restrict inverse) {                                   \
      loops::rms_norm(x, weight, rows, columns, eps, y, inverse);                                 \
    }                                                                                             \
    attribute static void rms_norm_backward(const T* __restrict g, const T* __restrict x,         \
                                            const float* __restrict weight,                       \
                                            const float* __restrict inverse, int64_t rows,        \
                                            int64_t columns, T* __restrict dx,                    \
                                            float* __restrict dw) {                               \
      loops::rms_norm_backward(g, x, weight, inverse, rows, columns, dx, dw);                     \
    }                                                                                             \
    attribute static void swiglu(const T* __restrict gate, const T* __restrict up, int64_t count, \
                                 T* __restrict y) {                                               \
      loops::swiglu(gate, up, count, y);                                                          \
    }                                                                                             \
    attribute static void swiglu_backward(const T* __restrict g, const T* __restrict gate,        \
                                          const T* __restrict up, int64_t count,                  \
                                          T* __restrict dgate, T* __restrict dup) {               \
      loops::swiglu_backward(g, gate, up, count, dgate, dup);                                     \
    }                                                                                             \
    attribute static void rotate_halves(const T* __restrict x, const T* __restrict cos,           \
                                        const T* __restrict sin, int64_t half, float direction,   \
                                        T* __restrict y) {                                        \
      loops::rotate_halves(x, cos, sin, half, direction, y);                                      \
    }                                                                                             \
  }

namespace deepseek_train::ops {

template <template <typename> typename Set, typename T>
constexpr FusedKernels<T> kernels_of() {
  return {Set<T>::rms_norm, Set<T>::rms_norm_backward, Set<T>::swiglu, Set<T>::swiglu_backward,
          Set<T>::rotate_halves};
}

DST_FUSED_KERNELS(PortableKernels, );

}  // namespace deepseek_train::ops
