// Correctly rounded sums of several vectors.
#pragma once

#include <cstddef>
#include <span>

namespace deepseek_train::collectives {

// sum[i] = the exact sum of terms[0][i], terms[1][i], ..., rounded once to nearest even; see
// all_reduce_exact for the special values. No terms: +0. `sum` may be one of the terms, or overlap
// nothing.
void exact_sum(std::span<const float* const> terms, float* sum, size_t count);
void exact_sum(std::span<const double* const> terms, double* sum, size_t count);

}  // namespace deepseek_train::collectives
