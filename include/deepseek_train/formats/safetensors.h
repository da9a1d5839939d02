// The safetensors container: a JSON header of names, types, shapes and offsets, then the raw
// tensors. Source: the format section of huggingface/safetensors' README. Little-endian hosts only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "deepseek_train/core/dtype.h"
#include "deepseek_train/core/env.h"

namespace deepseek_train::formats {

// What a tensor is, without its values. Shapes are outermost first, row-major; [] is a scalar.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;
};

// A tensor lying in a mapped file. `bytes` lives as long as the SafetensorsFile and starts wherever
// the file has it: aligned to 8 in the files Hugging Face and we write, not in all that are valid.
struct TensorView : TensorInfo {
  std::span<const std::byte> bytes;
  const ReadableFile* file = nullptr;
};

// "/m/model.safetensors: tensor \"a\" (bytes 120 to 240)": for errors.
std::string describe(const TensorView& tensor);

using StringMap = std::map<std::string, std::string>;

// Bytes of the tensor. Throws InvalidArgument, naming it, if a dimension is negative or the size
// overflows.
uint64_t size_bytes(const TensorInfo& tensor);
// The format's own name of the type: "F32", "BF16", "F8_E4M3".
std::string_view safetensors_name_of(DType dtype);

// One file, mapped for reading. Opening reads the header alone; tensor pages come as touched,
// nothing is copied. Const methods are thread-safe.
class SafetensorsFile {
 public:
  // Checks the whole header: every tensor inside the file, no hole, no overlap, each as long as its
  // shape says. Throws NotFound, PermissionDenied, or DataCorruption naming the file, the place and
  // the reason: the tensor and its range of bytes, or the header's.
  SafetensorsFile(Env& env, const std::string& path);

  const std::string& path() const { return file_->path(); }
  // In the order in which they lie in the file.
  const std::vector<TensorView>& tensors() const { return tensors_; }
  // The header's "__metadata__"; empty if there is none.
  const StringMap& metadata() const { return metadata_; }
  // nullptr if there is no such tensor.
  const TensorView* find(std::string_view name) const;
  // Throws NotFound naming the file and the nearest name.
  const TensorView& get(std::string_view name) const;

 private:
  std::unique_ptr<ReadableFile> file_;
  std::vector<TensorView> tensors_;
  StringMap metadata_;
  std::unordered_map<std::string_view, size_t> index_;
};

// Writes one file tensor by tensor, so no more than one needs to be in memory. One thread at a
// time. The file appears under its name at commit(), complete and synced; without commit() nothing
// remains.
class SafetensorsWriter {
 public:
  // Writes the header: the tensors will lie in the order given. Throws InvalidArgument for a name
  // given twice, a bad shape or text that is not UTF-8; Unavailable when the disk is full.
  SafetensorsWriter(Env& env, const std::string& path, std::vector<TensorInfo> tensors,
                    const StringMap& metadata = {});

  // The values of the next tensor, all of them. Throws InvalidArgument if their size is not the
  // tensor's.
  void write_next(std::span<const std::byte> bytes);
  // Throws InvalidArgument if a tensor is still missing.
  void commit();

 private:
  std::string path_;
  std::vector<TensorInfo> tensors_;
  size_t num_written_ = 0;
  bool committed_ = false;
  std::unique_ptr<WritableFile> file_;
};

}  // namespace deepseek_train::formats
