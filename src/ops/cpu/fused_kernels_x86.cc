#include "src/ops/cpu/fused_kernel_set.h"

namespace deepseek_train::ops {
namespace {

DST_FUSED_KERNELS(Avx2Kernels, [[gnu::target("avx2,fma")]]);
DST_FUSED_KERNELS(Avx512Kernels, [[gnu::target("avx512f,avx512bw,avx512vl,avx512dq,fma")]]);

template <typename T>
FusedKernels<T> best_kernels() {
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq"))
    return kernels_of<Avx512Kernels, T>();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return kernels_of<Avx2Kernels, T>();
  return kernels_of<PortableKernels, T>();
}

}  // namespace

template <typename T>
const FusedKernels<T>& fused_kernels() {
  static const FusedKernels<T> kernels = best_kernels<T>();
  return kernels;
}

template const FusedKernels<float>& fused_kernels<float>();
template const FusedKernels<BFloat16>& fused_kernels<BFloat16>();

}  // namespace deepseek_train::ops
