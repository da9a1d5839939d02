#include "src/ops/cpu/fused_kernel_set.h"

namespace deepseek_train::ops {

template <typename T>
const FusedKernels<T>& fused_kernels() {
  static const FusedKernels<T> kernels = kernels_of<PortableKernels, T>();
  return kernels;
}

template const FusedKernels<float>& fused_kernels<float>();
template const FusedKernels<BFloat16>& fused_kernels<BFloat16>();

}  // namespace deepseek_train::ops
