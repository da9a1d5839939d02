// What both directions of a folder's conversion share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "deepseek_train/formats/safetensors_folder.h"
#include "deepseek_train/quantization/fp8_block.h"

namespace deepseek_train::quantization {

// "...q_proj.weight" has its scales in "...q_proj.weight_scale_inv".
inline constexpr std::string_view kScaleSuffix = "_scale_inv";

inline Fp8BlockShape block_shape_of(const formats::TensorInfo& matrix) {
  return {matrix.shape[0], matrix.shape[1]};
}

// Memory that grows to the largest tensor and is used again for each.
class Buffer {
 public:
  // `count` elements with unknown values; earlier spans end.
  template <typename T>
  std::span<T> take(int64_t count) {
    const size_t num_bytes = static_cast<size_t>(count) * sizeof(T);
    if (bytes_.size() < num_bytes) bytes_ = std::vector<std::byte>(num_bytes);
    return {reinterpret_cast<T*>(bytes_.data()), static_cast<size_t>(count)};
  }

 private:
  std::vector<std::byte> bytes_;
};

// Tensors of a file may begin at any byte: where elements of type T would lie askew they are copied
// into `scratch` first.
template <typename T>
std::span<const T> elements_of(std::span<const std::byte> bytes, std::vector<T>& scratch) {
  if (reinterpret_cast<uintptr_t>(bytes.data()) % alignof(T) == 0)
    return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
  scratch.resize(bytes.size() / sizeof(T));
  std::memcpy(scratch.data(), bytes.data(), bytes.size());
  return scratch;
}

// A band of whole blocks of a matrix: what a thread takes at a time.
struct Band {
  Fp8BlockShape shape;
  int64_t first_row = 0;
  int64_t first_value = 0;
  int64_t first_scale = 0;

  template <typename T>
  std::span<T> values_of(std::span<T> all) const {
    return all.subspan(static_cast<size_t>(first_value), static_cast<size_t>(shape.num_values()));
  }
  template <typename T>
  std::span<T> scales_of(std::span<T> all) const {
    return all.subspan(static_cast<size_t>(first_scale), static_cast<size_t>(shape.num_scales()));
  }
};

void for_each_band(const Fp8BlockShape& shape, int num_threads,
                   const std::function<void(const Band&)>& work);

}  // namespace deepseek_train::quantization
