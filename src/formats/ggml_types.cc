#include "src/formats/ggml_types.h"

#include <array>

namespace deepseek_train::formats {
namespace {

using enum GgmlType;

// Block sizes are the sizes of ggml-common.h's block structs.
constexpr std::array<GgmlTypeInfo, 32> kTypes = {{
    {kF32, "F32", 1, 4},
    {kF16, "F16", 1, 2},
    {kBF16, "BF16", 1, 2},
    {kF64, "F64", 1, 8},
    {kI8, "I8", 1, 1},
    {kI16, "I16", 1, 2},
    {kI32, "I32", 1, 4},
    {kI64, "I64", 1, 8},
    {kQ4_0, "Q4_0", 32, 18},
    {kQ4_1, "Q4_1", 32, 20},
    {kQ5_0, "Q5_0", 32, 22},
    {kQ5_1, "Q5_1", 32, 24},
    {kQ8_0, "Q8_0", 32, 34},
    {kQ8_1, "Q8_1", 32, 36},
    {kQ2_K, "Q2_K", 256, 84},
    {kQ3_K, "Q3_K", 256, 110},
    {kQ4_K, "Q4_K", 256, 144},
    {kQ5_K, "Q5_K", 256, 176},
    {kQ6_K, "Q6_K", 256, 210},
    {kQ8_K, "Q8_K", 256, 292},
    {kIQ2_XXS, "IQ2_XXS", 256, 66},
    {kIQ2_XS, "IQ2_XS", 256, 74},
    {kIQ2_S, "IQ2_S", 256, 82},
    {kIQ3_XXS, "IQ3_XXS", 256, 98},
    {kIQ3_S, "IQ3_S", 256, 110},
    {kIQ1_S, "IQ1_S", 256, 50},
    {kIQ1_M, "IQ1_M", 256, 56},
    {kIQ4_NL, "IQ4_NL", 32, 18},
    {kIQ4_XS, "IQ4_XS", 256, 136},
    {kTQ1_0, "TQ1_0", 256, 54},
    {kTQ2_0, "TQ2_0", 256, 66},
    {kMXFP4, "MXFP4", 32, 17},
}};

}  // namespace

const GgmlTypeInfo* find_ggml_type(uint32_t number) {
  for (const auto& info : kTypes)
    if (static_cast<uint32_t>(info.type) == number) return &info;
  return nullptr;
}

std::string_view name_of(GgmlType type) {
  const auto* info = find_ggml_type(static_cast<uint32_t>(type));
  return info ? info->name : "unknown";
}

}  // namespace deepseek_train::formats
