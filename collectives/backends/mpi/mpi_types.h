// Our element types and operations in MPI's terms.
#pragma once

#include <cstddef>

#include "collectives/backends/mpi/mpi_session.h"
#include "deepseek_train/collectives/reduce_op.h"
#include "deepseek_train/core/dtype.h"

namespace deepseek_train::collectives {

// MPI knows no bf16 and fp16, its MIN and MAX say nothing about NaN, and OpenMPI's vector code
// saturates 8-bit sums: these are operations of ours.
class MpiOperations {
 public:
  MpiOperations();
  // kAvg is a sum here; the caller divides.
  MPI_Op find(DType dtype, ReduceOp op) const;

 private:
  enum Kind { kSum, kMin, kMax, kProd, kNumKinds };
  enum Type { kBFloat16, kFloat16, kFloat32, kFloat64, kInt8, kUInt8, kNumTypes };
  std::unique_ptr<UniqueMpiOp> own_[kNumTypes][kNumKinds];
};

// For reductions: one element. bf16 and fp16 are 16-bit words.
MPI_Datatype mpi_type(DType dtype);

}  // namespace deepseek_train::collectives
