// A sum that does not depend on how many ranks there are.
#pragma once

#include <source_location>
#include <span>

#include "deepseek_train/collectives/communicator.h"

namespace deepseek_train::collectives {

// data[i] = the exact sum of all ranks' data[i], rounded once to the nearest (ties to even). The
// bits depend neither on the order of the ranks nor on intermediate overflow: 1e16 + 1 - 1e16 is 1.
// Infinities add as usual; a NaN, or infinities of both signs, give the quiet NaN; a sum of zeros
// is -0 only if all are -0. The processor must round to nearest and keep subnormals, as it does
// unless told otherwise.
//
// Works on every Communicator that takes host memory. Collective, blocking; errors are those of
// all_to_all and all_gather.
//
// Cost: each element's values travel as they are to one owner, who adds them and gives the sum to
// all: every rank sends 2(n-1)/n of the bytes, as for the default all_reduce, and keeps 4 MiB of
// scratch. An addition is an error-free transformation (Knuth 1969, TwoSum: 6 operations for float,
// 12 for double) in vector code; elements whose sum needs more bits than it tracks (53 for float,
// 106 for double) go through a superaccumulator of 10 or 67 words of 32 bits (Kulisch), 25 to 50
// times slower an element.
void all_reduce_exact(Communicator& communicator, std::span<float> data,
                      std::source_location site = std::source_location::current());
void all_reduce_exact(Communicator& communicator, std::span<double> data,
                      std::source_location site = std::source_location::current());

// The same with any number of terms on a rank (none too): sum[i] = the rounded sum of term[i] over
// all terms of all ranks. So what one rank adds up from eight micro-batches, two ranks add up from
// four each to the same bits, and eight ranks from one each. Every term has sum.size() elements, on
// all ranks; `sum` may be one of the terms. Throws InvalidArgument, on all ranks, if sizes differ.
//
// Cost: (terms + 1)(n-1)/n of the bytes of `sum` are sent by a rank.
void all_reduce_exact(Communicator& communicator, std::span<const std::span<const float>> terms,
                      std::span<float> sum,
                      std::source_location site = std::source_location::current());
void all_reduce_exact(Communicator& communicator, std::span<const std::span<const double>> terms,
                      std::span<double> sum,
                      std::source_location site = std::source_location::current());

}  // namespace deepseek_train::collectives
