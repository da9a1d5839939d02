#include <bit>

#include "deepseek_train/core/error.h"
#include "deepseek_train/formats/gguf.h"
#include "src/formats/byte_cursor.h"
#include "src/formats/gguf_parser.h"

namespace deepseek_train::formats {
namespace {

constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = uint64_t{1} << 31;

uint64_t alignment_of(const std::map<std::string, GgufValue, std::less<>>& metadata,
                      const std::string& path) {
  auto found = metadata.find("general.alignment");
  if (found == metadata.end()) return kDefaultAlignment;
  const auto* alignment = std::get_if<uint64_t>(&found->second);
  DST_CHECK_AS(DataCorruption,
               alignment && std::has_single_bit(*alignment) && *alignment <= kMaxAlignment, path,
               ": general.alignment must be a power of two, unsigned",
               alignment ? concat("; found ", *alignment) : "");
  return *alignment;
}

}  // namespace

std::string describe(const GgufTensor& tensor) {
  if (tensor.file == nullptr) return concat("tensor \"", tensor.name, "\"");
  const auto begin = static_cast<uint64_t>(tensor.bytes.data() - tensor.file->bytes().data());
  return concat(tensor.file->path(), ": tensor \"", tensor.name, "\" (bytes ", begin, " to ",
                begin + tensor.bytes.size(), ")");
}

GgufFile::GgufFile(Env& env, const std::string& path) : file_(env.open(path)) {
  ByteCursor cursor(file_->bytes(), file_->path());
  auto header = parse_gguf_header(cursor);
  version_ = header.version;
  metadata_ = parse_gguf_metadata(cursor, header.num_metadata);
  alignment_ = alignment_of(metadata_, path);
  cursor.check_count(header.num_tensors, 1, "the tensor count");
  tensors_ = parse_gguf_tensors(cursor, header.num_tensors, alignment_, file_->bytes());
  for (size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
  for (auto& tensor : tensors_) tensor.file = file_.get();
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

const GgufTensor& GgufFile::get(std::string_view name) const {
  if (const GgufTensor* tensor = find(name)) return *tensor;
  std::vector<std::string> names;
  for (const auto& tensor : tensors_) names.push_back(tensor.name);
  auto nearest = nearest_word(name, names);
  throw NotFound(concat(path(), " has no tensor \"", name, "\"",
                        nearest.empty() ? "" : concat("; the nearest name is \"", nearest, "\"")));
}

void GgufFile::dequantize(std::string_view name, std::span<float> values) const {
  formats::dequantize(get(name), values);
}

}  // namespace deepseek_train::formats
