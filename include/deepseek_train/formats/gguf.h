// The GGUF container of llama.cpp: typed metadata, then tensors, many of them quantized in blocks.
// Source: ggml-org/ggml docs/gguf.md, versions 2 and 3, little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "deepseek_train/core/env.h"

namespace deepseek_train::formats {

// Tensor types by ggml's numbers. All can be opened; dequantize() knows F32, F16, BF16, Q8_0, Q4_0
// and Q4_1.
enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ8_1 = 9,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kQ8_K = 15,
  kIQ2_XXS = 16,
  kIQ2_XS = 17,
  kIQ3_XXS = 18,
  kIQ1_S = 19,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ2_S = 22,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kIQ1_M = 29,
  kBF16 = 30,
  kTQ1_0 = 34,
  kTQ2_0 = 35,
  kMXFP4 = 39,
};

// "Q4_1"; "unknown" for a number ggml does not have.
std::string_view name_of(GgmlType type);

struct GgufTensor {
  std::string name;
  GgmlType type = GgmlType::kF32;
  // PyTorch's order, outermost first: [out, in] for a linear layer (the file has them reversed).
  std::vector<int64_t> shape;
  // As stored, aligned to general.alignment within the file. Lives as long as the GgufFile.
  std::span<const std::byte> bytes;
  const ReadableFile* file = nullptr;

  int64_t num_elements() const;
};

// "/m/model.gguf: tensor \"a\" (bytes 96 to 132)", without the file for a tensor of none: for
// errors.
std::string describe(const GgufTensor& tensor);

// Metadata: unsigned and signed integers of all widths are widened to 64 bits, floats to double.
// Arrays of integers become int64; an array of arrays is refused when the file is opened.
using GgufValue = std::variant<bool, uint64_t, int64_t, double, std::string, std::vector<bool>,
                               std::vector<int64_t>, std::vector<double>, std::vector<std::string>>;

// Values of the tensor as float, in row-major order. Throws InvalidArgument if `values` has another
// length than the tensor, or for a type not listed above, by its name. Exact: F16 and BF16 widen,
// blocks are scale * q
// (+ minimum) in float32, as ggml computes them. Thread-safe; 10^9 values take about a second on
// one core.
void dequantize(const GgufTensor& tensor, std::span<float> values);

// One file, mapped for reading: opening reads metadata and tensor list, tensor pages come as
// touched. Const methods are thread-safe.
class GgufFile {
 public:
  // Throws NotFound, PermissionDenied, or DataCorruption naming the file, the place and the reason:
  // another magic or version, a cut at any place, counts beyond the file, duplicate names, tensors
  // outside the file or overlapping.
  GgufFile(Env& env, const std::string& path);

  const std::string& path() const { return file_->path(); }
  uint32_t version() const { return version_; }
  uint64_t alignment() const { return alignment_; }

  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  // nullptr if there is no such key.
  const GgufValue* find_metadata(std::string_view key) const;
  // Throw NotFound naming the nearest key, or InvalidArgument naming the type found. get_uint also
  // takes a signed value that is not negative, get_float any number.
  bool get_bool(std::string_view key) const;
  uint64_t get_uint(std::string_view key) const;
  double get_float(std::string_view key) const;
  const std::string& get_string(std::string_view key) const;
  const std::vector<std::string>& get_strings(std::string_view key) const;
  const std::vector<int64_t>& get_ints(std::string_view key) const;
  const std::vector<double>& get_floats(std::string_view key) const;

  // In the order of the file's tensor list.
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  // nullptr if there is no such tensor.
  const GgufTensor* find(std::string_view name) const;
  // Throws NotFound naming the file and the nearest name.
  const GgufTensor& get(std::string_view name) const;
  void dequantize(std::string_view name, std::span<float> values) const;

 private:
  const GgufValue& get_metadata(std::string_view key) const;

  std::unique_ptr<ReadableFile> file_;
  uint32_t version_ = 0;
  uint64_t alignment_ = 0;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string_view, size_t> index_;
};

}  // namespace deepseek_train::formats
