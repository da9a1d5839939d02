// From mapped files straight into the caller's memory, with several threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "deepseek_train/formats/safetensors.h"

namespace deepseek_train::formats {

// The part of a tensor that one rank needs: [begin, end) of one dimension, all of the others. Rows
// of a linear layer's weight are dimension 0, its columns dimension 1.
struct TensorSlice {
  int64_t dimension = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

// Shape of the part. Throws InvalidArgument naming the tensor if it does not lie inside.
std::vector<int64_t> shape_of(const TensorInfo& tensor, const TensorSlice& slice);

// One tensor, or one slice of it, and where its values go: dense, row-major.
struct TensorCopy {
  const TensorView* tensor = nullptr;
  std::optional<TensorSlice> slice;
  std::span<std::byte> destination;
};

// Copies all of them with `num_threads` threads, in pieces of a few MiB taken in turn from all
// tensors, so that one large tensor does not hold up the rest. Reads only the bytes asked for
// (whole pages) and needs no memory of its own. Throws InvalidArgument before anything is copied if
// a destination has another size than its part or a slice lies outside; Unavailable naming file,
// tensor and bytes if the file cannot be read any more. After an error the destinations hold
// anything. The mapped pages count as memory of this process until they are released
// (ReadableFile::release) or the file is closed.
void copy_tensors(std::span<const TensorCopy> copies, int num_threads);

}  // namespace deepseek_train::formats
