// Watching values go by to find their range, for scales that are stored rather than computed while
// running.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace deepseek_train::quantization {

// The largest magnitude of each channel (or of the whole tensor: one channel) over all batches
// seen. One thread at a time. The result does not depend on the order of the batches, and the
// maximum over ranks of absmax() is what one rank would have seen.
class MinMaxObserver {
 public:
  explicit MinMaxObserver(int64_t num_channels);

  // values [num_channels, columns], row-major. Reads them once. Throws InvalidArgument if they do
  // not divide evenly.
  void observe(std::span<const float> values);

  // [num_channels]; 0 where nothing was seen, NaN where a NaN was. To combine ranks, all-reduce it
  // with max.
  std::span<float> absmax() { return absmax_; }
  std::span<const float> absmax() const { return absmax_; }

  // [num_channels], by the convention of int8.h.
  std::vector<float> scales() const;

 private:
  std::vector<float> absmax_;
};

}  // namespace deepseek_train::quantization
