#include "deepseek_train/core/torch/dtype.h"

#include <array>
#include <utility>

#include "deepseek_train/core/error.h"

namespace deepseek_train {
namespace {

constexpr std::array<std::pair<DType, c10::ScalarType>, 12> kPairs = {{
    {DType::kFloat32, c10::ScalarType::Float},
    {DType::kFloat64, c10::ScalarType::Double},
    {DType::kBFloat16, c10::ScalarType::BFloat16},
    {DType::kFloat16, c10::ScalarType::Half},
    {DType::kInt64, c10::ScalarType::Long},
    {DType::kInt32, c10::ScalarType::Int},
    {DType::kInt8, c10::ScalarType::Char},
    {DType::kUInt8, c10::ScalarType::Byte},
    {DType::kBool, c10::ScalarType::Bool},
    {DType::kFloat8E4M3, c10::ScalarType::Float8_e4m3fn},
    {DType::kFloat8E5M2, c10::ScalarType::Float8_e5m2},
    {DType::kFloat8E8M0, c10::ScalarType::Float8_e8m0fnu},
}};

}  // namespace

DType dtype_of(c10::ScalarType type) {
  for (auto [ours, theirs] : kPairs)
    if (theirs == type) return ours;
  throw InvalidArgument(concat("tensors of type ", c10::toString(type), " are not supported"));
}

c10::ScalarType scalar_type_of(DType dtype) {
  for (auto [ours, theirs] : kPairs)
    if (ours == dtype) return theirs;
  throw InvalidArgument(concat("libtorch has no type for ", name_of(dtype)));
}

}  // namespace deepseek_train
