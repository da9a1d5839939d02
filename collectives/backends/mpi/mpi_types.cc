#include "collectives/backends/mpi/mpi_types.h"

#include "collectives/algorithms/tree_reduce.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

// Called by MPI for pieces of the buffers. 16-bit types are rounded at every call: MPI holds
// partial results in the element type.
template <DType kDType, ReduceOp kOp>
void reduce_piece(void* in, void* in_out, int* count, MPI_Datatype*) {
  accumulate(kDType, kOp, static_cast<const std::byte*>(in), static_cast<std::byte*>(in_out),
             static_cast<size_t>(*count));
}

template <DType kDType, ReduceOp kOp>
std::unique_ptr<UniqueMpiOp> operation() {
  return std::make_unique<UniqueMpiOp>(&reduce_piece<kDType, kOp>);
}

template <DType kDType, typename Slots>
void make_operations(Slots& slots) {
  slots[0] = operation<kDType, ReduceOp::kSum>();
  slots[1] = operation<kDType, ReduceOp::kMin>();
  slots[2] = operation<kDType, ReduceOp::kMax>();
  slots[3] = operation<kDType, ReduceOp::kProd>();
}

MPI_Op builtin_operation(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
    case ReduceOp::kAvg: return MPI_SUM;
    case ReduceOp::kMin: return MPI_MIN;
    case ReduceOp::kMax: return MPI_MAX;
    case ReduceOp::kProd: return MPI_PROD;
    case ReduceOp::kAnd: return MPI_BAND;
    case ReduceOp::kOr: return MPI_BOR;
  }
  throw Internal(concat("unknown ReduceOp ", static_cast<int>(op)));
}

}  // namespace

MpiOperations::MpiOperations() {
  make_operations<DType::kBFloat16>(own_[kBFloat16]);
  make_operations<DType::kFloat16>(own_[kFloat16]);
  make_operations<DType::kFloat32>(own_[kFloat32]);
  make_operations<DType::kFloat64>(own_[kFloat64]);
  make_operations<DType::kInt8>(own_[kInt8]);
  make_operations<DType::kUInt8>(own_[kUInt8]);
}

MPI_Op MpiOperations::find(DType dtype, ReduceOp op) const {
  const Kind kind = op == ReduceOp::kMin    ? kMin
                    : op == ReduceOp::kMax  ? kMax
                    : op == ReduceOp::kProd ? kProd
                                            : kSum;
  const bool is_bitwise = op == ReduceOp::kAnd || op == ReduceOp::kOr;
  const bool is_arithmetic = kind == kSum || kind == kProd;
  switch (dtype) {
    case DType::kBFloat16: return own_[kBFloat16][kind]->get();
    case DType::kFloat16: return own_[kFloat16][kind]->get();
    case DType::kFloat32:
      return is_arithmetic ? builtin_operation(op) : own_[kFloat32][kind]->get();
    case DType::kFloat64:
      return is_arithmetic ? builtin_operation(op) : own_[kFloat64][kind]->get();
    case DType::kInt8: return is_bitwise ? builtin_operation(op) : own_[kInt8][kind]->get();
    case DType::kUInt8:
    case DType::kBool: return is_bitwise ? builtin_operation(op) : own_[kUInt8][kind]->get();
    default: return builtin_operation(op);
  }
}

MPI_Datatype mpi_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return MPI_FLOAT;
    case DType::kFloat64: return MPI_DOUBLE;
    case DType::kBFloat16:
    case DType::kFloat16: return MPI_UINT16_T;
    case DType::kInt32: return MPI_INT32_T;
    case DType::kInt64: return MPI_INT64_T;
    case DType::kInt8: return MPI_INT8_T;
    case DType::kUInt8:
    case DType::kBool: return MPI_UINT8_T;
    default: throw InvalidArgument(concat("MPI backend cannot reduce ", name_of(dtype)));
  }
}

}  // namespace deepseek_train::collectives
