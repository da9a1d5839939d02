#include <cmath>

#include "deepseek_train/core/error.h"
#include "deepseek_train/quantization/int8.h"
#include "deepseek_train/quantization/observer.h"
#include "deepseek_train/quantization/row_kernels.h"

namespace deepseek_train::quantization {

MinMaxObserver::MinMaxObserver(int64_t num_channels) {
  DST_CHECK(num_channels > 0, "a MinMaxObserver of ", num_channels,
            " channels; wanted at least 1 (1 observes the tensor as a whole)");
  absmax_.assign(static_cast<size_t>(num_channels), 0.0f);
}

void MinMaxObserver::observe(std::span<const float> values) {
  DST_CHECK(values.size() % absmax_.size() == 0, "observed ", values.size(), " values, which ",
            absmax_.size(), " channels do not divide; pass whole rows");
  const size_t columns = values.size() / absmax_.size();
  const RowKernels& kernels = row_kernels();
  for (size_t channel = 0; channel < absmax_.size(); ++channel) {
    const float batch =
        kernels.absmax(values.data() + channel * columns, static_cast<int64_t>(columns));
    float& largest = absmax_[channel];
    if (batch > largest || std::isnan(batch)) largest = batch;
  }
}

std::vector<float> MinMaxObserver::scales() const {
  std::vector<float> scales;
  scales.reserve(absmax_.size());
  for (float absmax : absmax_) scales.push_back(symmetric_int8_scale(absmax));
  return scales;
}

}  // namespace deepseek_train::quantization
