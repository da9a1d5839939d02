// The one INT8 convention of this library: fake quantization, export and integer kernels all follow
// it.
//
//   scale = absmax / 127.5 in fp32; a zero scale becomes the fp32 epsilon
//   q     = round_half_even(clamp(x / scale, -128, 127))      a true division, not a product with 1
//   / scale x'    = q * scale
//
// It is compressed-tensors 0.20's symmetric 8-bit arithmetic to the bit, in fp32. The range
// -128..127 is used in full: -absmax may become -128, absmax always 127. bf16 values are widened
// first, so their scales are fp32 too.
#pragma once

#include <cstdint>
#include <limits>

namespace deepseek_train::quantization {

inline constexpr float kInt8HalfRange = 127.5f;
// Activations are stored as q + 128 where a kernel wants unsigned bytes.
inline constexpr int32_t kUint8ZeroPoint = 128;

// The scale of values whose largest magnitude is `absmax`. A NaN or infinite absmax gives a NaN or
// infinite scale, which then shows in every result.
inline float symmetric_int8_scale(float absmax) {
  const float scale = absmax / kInt8HalfRange;
  return scale == 0.0f ? std::numeric_limits<float>::epsilon() : scale;
}

}  // namespace deepseek_train::quantization
