#include "collectives/transport/hierarchical/widen.h"

#include <cstring>

#include "collectives/algorithms/elements.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

template <typename Element>
void widen_all(const std::byte* from, std::byte* to, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    typename Element::Stored stored;
    std::memcpy(&stored, from + i * sizeof(stored), sizeof(stored));
    const typename Element::Accumulator wide = Element::load(stored);
    std::memcpy(to + i * sizeof(wide), &wide, sizeof(wide));
  }
}

template <typename Element>
void narrow_all(const std::byte* from, std::byte* to, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    typename Element::Accumulator wide;
    std::memcpy(&wide, from + i * sizeof(wide), sizeof(wide));
    const typename Element::Stored stored = Element::store(wide);
    std::memcpy(to + i * sizeof(stored), &stored, sizeof(stored));
  }
}

}  // namespace

std::optional<DType> wide_type_of(DType dtype, ReduceOp op) {
  const bool is_sum = op == ReduceOp::kSum || op == ReduceOp::kAvg || op == ReduceOp::kProd;
  if ((dtype == DType::kBFloat16 || dtype == DType::kFloat16) && is_sum) return DType::kFloat32;
  if ((dtype == DType::kInt8 || dtype == DType::kUInt8) && op == ReduceOp::kAvg)
    return DType::kInt32;
  return {};
}

void widen(DType narrow, const std::byte* from, std::byte* to, size_t count) {
  switch (narrow) {
    case DType::kBFloat16: return widen_all<BFloat16Element>(from, to, count);
    case DType::kFloat16: return widen_all<Float16Element>(from, to, count);
    case DType::kInt8: return widen_all<NarrowElement<int8_t>>(from, to, count);
    case DType::kUInt8: return widen_all<NarrowElement<uint8_t>>(from, to, count);
    default: throw Internal("no wider type");
  }
}

void narrow(DType narrow, const std::byte* from, std::byte* to, size_t count) {
  switch (narrow) {
    case DType::kBFloat16: return narrow_all<BFloat16Element>(from, to, count);
    case DType::kFloat16: return narrow_all<Float16Element>(from, to, count);
    case DType::kInt8: return narrow_all<NarrowElement<int8_t>>(from, to, count);
    case DType::kUInt8: return narrow_all<NarrowElement<uint8_t>>(from, to, count);
    default: throw Internal("no wider type");
  }
}

}  // namespace deepseek_train::collectives
