#include "deepseek_train/core/error.h"
#include "deepseek_train/formats/safetensors.h"
#include "src/formats/safetensors_header.h"

namespace deepseek_train::formats {

SafetensorsWriter::SafetensorsWriter(Env& env, const std::string& path,
                                     std::vector<TensorInfo> tensors, const StringMap& metadata)
    : path_(path), tensors_(std::move(tensors)) {
  // The header first: a bad one must not touch the disk.
  auto header = format_safetensors_header(tensors_, metadata);
  file_ = env.create(path);
  file_->append(header);
}

void SafetensorsWriter::write_next(std::span<const std::byte> bytes) {
  DST_CHECK(num_written_ < tensors_.size(), path_, " was declared with ", tensors_.size(),
            " tensors, and all are written");
  const auto& tensor = tensors_[num_written_];
  auto wanted = size_bytes(tensor);
  DST_CHECK(bytes.size() == wanted, path_, ": tensor \"", tensor.name, "\" of shape ", tensor.shape,
            " and dtype ", safetensors_name_of(tensor.dtype), " takes ", wanted, " bytes, ",
            bytes.size(), " were given");
  file_->append(bytes);
  ++num_written_;
}

void SafetensorsWriter::commit() {
  DST_CHECK(!committed_, path_, " is already committed");
  DST_CHECK(num_written_ == tensors_.size(), path_, ": ", num_written_, " of ", tensors_.size(),
            " tensors are written; the next is \"",
            num_written_ < tensors_.size() ? tensors_[num_written_].name : "", "\"");
  file_->commit();
  committed_ = true;
}

}  // namespace deepseek_train::formats
