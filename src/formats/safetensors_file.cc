#include <bit>
#include <cstring>

#include "deepseek_train/core/error.h"
#include "deepseek_train/formats/safetensors.h"
#include "src/formats/safetensors_header.h"

namespace deepseek_train::formats {
namespace {

static_assert(std::endian::native == std::endian::little,
              "tensors are read in place, as little-endian values");

std::string_view header_text(std::span<const std::byte> bytes, const std::string& path) {
  DST_CHECK_AS(DataCorruption, bytes.size() >= kSafetensorsLengthBytes, path,
               " has only the bytes 0 to ", bytes.size(),
               ", too few for a safetensors file; copy it again");
  uint64_t length;
  std::memcpy(&length, bytes.data(), kSafetensorsLengthBytes);
  DST_CHECK_AS(DataCorruption, length <= kMaxSafetensorsHeaderBytes, path,
               " claims in its bytes 0 to 8 a header of ", length, " bytes, the format allows ",
               kMaxSafetensorsHeaderBytes, "; is this a safetensors file?");
  DST_CHECK_AS(DataCorruption, length <= bytes.size() - kSafetensorsLengthBytes, path,
               " claims in its bytes 0 to 8 a header of ", length, " bytes, but has ",
               bytes.size() - kSafetensorsLengthBytes,
               " after the length: it is cut; copy it again");
  return {reinterpret_cast<const char*>(bytes.data()) + kSafetensorsLengthBytes, length};
}

// The first tensor that a cut file lacks, or what follows the last one.
void check_data_size(const SafetensorsHeader& header, uint64_t found, uint64_t data_begin,
                     const std::string& path) {
  const uint64_t wanted = header.tensors.empty() ? 0 : header.tensors.back().end;
  if (found == wanted) return;
  if (found > wanted)
    throw DataCorruption(concat(path, ": bytes ", data_begin + wanted, " to ", data_begin + found,
                                " follow the last tensor and belong to none"));
  for (const auto& tensor : header.tensors)
    DST_CHECK_AS(DataCorruption, tensor.end <= found, path, ": tensor \"", tensor.info.name,
                 "\" takes the bytes ", data_begin + tensor.begin, " to ", data_begin + tensor.end,
                 ", but the file has ", data_begin + found, ": it is cut; copy it again");
}

}  // namespace

std::string describe(const TensorView& tensor) {
  const auto begin = static_cast<uint64_t>(tensor.bytes.data() - tensor.file->bytes().data());
  return concat(tensor.file->path(), ": tensor \"", tensor.name, "\" (bytes ", begin, " to ",
                begin + tensor.bytes.size(), ")");
}

SafetensorsFile::SafetensorsFile(Env& env, const std::string& path) : file_(env.open(path)) {
  auto text = header_text(file_->bytes(), path);
  auto header = parse_safetensors_header(text, path);
  auto data = file_->bytes().subspan(kSafetensorsLengthBytes + text.size());
  check_data_size(header, data.size(), kSafetensorsLengthBytes + text.size(), path);
  metadata_ = std::move(header.metadata);
  tensors_.reserve(header.tensors.size());
  for (auto& tensor : header.tensors)
    tensors_.push_back({std::move(tensor.info),
                        data.subspan(tensor.begin, tensor.end - tensor.begin), file_.get()});
  for (size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
}

const TensorView* SafetensorsFile::find(std::string_view name) const {
  auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

const TensorView& SafetensorsFile::get(std::string_view name) const {
  if (const TensorView* tensor = find(name)) return *tensor;
  std::vector<std::string> names;
  for (const auto& tensor : tensors_) names.push_back(tensor.name);
  auto nearest = nearest_word(name, names);
  throw NotFound(concat(path(), " has no tensor \"", name, "\"",
                        nearest.empty() ? "" : concat("; the nearest name is \"", nearest, "\"")));
}

}  // namespace deepseek_train::formats
