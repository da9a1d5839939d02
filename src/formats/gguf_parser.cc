#include "src/formats/gguf_parser.h"

#include <algorithm>
#include <optional>
#include <unordered_set>

#include "src/formats/checked_math.h"
#include "src/formats/ggml_types.h"

namespace deepseek_train::formats {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint32_t kMaxDimensions = 4;   // ggml's own limit
constexpr uint64_t kMinMetadataBytes = 8 + 4 + 1;
constexpr uint64_t kMinTensorInfoBytes = 8 + 4 + 4 + 8;

// The numbers of the file format.
enum class ValueType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

bool read_bool(ByteCursor& cursor, const std::string& what) {
  auto value = cursor.read<uint8_t>(what);
  DST_CHECK_AS(DataCorruption, value <= 1, cursor.path(), ": ", what, " is the bool ", int{value},
               ", wanted 0 or 1");
  return value == 1;
}

[[noreturn]] void throw_unknown_type(const ByteCursor& cursor, const std::string& what,
                                     uint32_t type) {
  throw DataCorruption(
      concat(cursor.path(), ": ", what, " has value type ", type, ", GGUF knows 0 to 12"));
}

GgufValue read_scalar(ByteCursor& cursor, uint32_t type, const std::string& what) {
  switch (static_cast<ValueType>(type)) {
    case ValueType::kU8: return uint64_t{cursor.read<uint8_t>(what)};
    case ValueType::kU16: return uint64_t{cursor.read<uint16_t>(what)};
    case ValueType::kU32: return uint64_t{cursor.read<uint32_t>(what)};
    case ValueType::kU64: return cursor.read<uint64_t>(what);
    case ValueType::kI8: return int64_t{cursor.read<int8_t>(what)};
    case ValueType::kI16: return int64_t{cursor.read<int16_t>(what)};
    case ValueType::kI32: return int64_t{cursor.read<int32_t>(what)};
    case ValueType::kI64: return cursor.read<int64_t>(what);
    case ValueType::kF32: return double{cursor.read<float>(what)};
    case ValueType::kF64: return cursor.read<double>(what);
    case ValueType::kBool: return read_bool(cursor, what);
    case ValueType::kString: return cursor.read_string(what);
    case ValueType::kArray: break;
  }
  throw_unknown_type(cursor, what, type);
}

template <typename Stored, typename Value>
std::vector<Value> read_numbers(ByteCursor& cursor, const std::string& what) {
  std::vector<Value> values(cursor.read_count(sizeof(Stored), what));
  for (auto&& value : values) value = static_cast<Value>(cursor.read<Stored>(what));
  return values;
}

std::vector<int64_t> read_u64_array(ByteCursor& cursor, const std::string& what) {
  auto values = read_numbers<uint64_t, int64_t>(cursor, what);
  bool fits = std::all_of(values.begin(), values.end(), [](int64_t value) { return value >= 0; });
  DST_CHECK_AS(DataCorruption, fits, cursor.path(), ": ", what,
               " holds a number above 2^63 - 1, which is not read");
  return values;
}

std::vector<bool> read_bools(ByteCursor& cursor, const std::string& what) {
  std::vector<bool> values(cursor.read_count(1, what));
  for (auto&& value : values) value = read_bool(cursor, what);
  return values;
}

std::vector<std::string> read_strings(ByteCursor& cursor, const std::string& what) {
  std::vector<std::string> values(cursor.read_count(sizeof(uint64_t), what));
  for (auto& value : values) value = cursor.read_string(what);
  return values;
}

GgufValue read_array(ByteCursor& cursor, const std::string& what) {
  auto type = cursor.read<uint32_t>(what);
  switch (static_cast<ValueType>(type)) {
    case ValueType::kU8: return read_numbers<uint8_t, int64_t>(cursor, what);
    case ValueType::kU16: return read_numbers<uint16_t, int64_t>(cursor, what);
    case ValueType::kU32: return read_numbers<uint32_t, int64_t>(cursor, what);
    case ValueType::kU64: return read_u64_array(cursor, what);
    case ValueType::kI8: return read_numbers<int8_t, int64_t>(cursor, what);
    case ValueType::kI16: return read_numbers<int16_t, int64_t>(cursor, what);
    case ValueType::kI32: return read_numbers<int32_t, int64_t>(cursor, what);
    case ValueType::kI64: return read_numbers<int64_t, int64_t>(cursor, what);
    case ValueType::kF32: return read_numbers<float, double>(cursor, what);
    case ValueType::kF64: return read_numbers<double, double>(cursor, what);
    case ValueType::kBool: return read_bools(cursor, what);
    case ValueType::kString: return read_strings(cursor, what);
    case ValueType::kArray:
      throw DataCorruption(
          concat(cursor.path(), ": ", what, " is an array of arrays, which is not read"));
  }
  throw_unknown_type(cursor, what, type);
}

// A tensor of the list; its offset counts from the start of the data.
struct ListedTensor {
  GgufTensor tensor;
  uint64_t offset = 0;
  uint64_t num_bytes = 0;
};

std::vector<int64_t> read_shape(ByteCursor& cursor, const std::string& what) {
  auto num_dimensions = cursor.read<uint32_t>(what);
  DST_CHECK_AS(DataCorruption, num_dimensions <= kMaxDimensions, cursor.path(), ": ", what, " has ",
               num_dimensions, " dimensions, ggml allows ", kMaxDimensions);
  std::vector<int64_t> shape(num_dimensions);
  for (auto& dimension : shape) {
    auto stored = cursor.read<uint64_t>(what);
    DST_CHECK_AS(DataCorruption, stored <= static_cast<uint64_t>(INT64_MAX), cursor.path(), ": ",
                 what, " has a dimension of ", stored);
    dimension = static_cast<int64_t>(stored);
  }
  std::reverse(shape.begin(), shape.end());
  return shape;
}

ListedTensor read_listed_tensor(ByteCursor& cursor, uint64_t alignment) {
  ListedTensor listed;
  const uint64_t begin = cursor.position();
  listed.tensor.name = cursor.read_string("a tensor's name");
  std::string what = concat("tensor \"", listed.tensor.name, "\" (listed at byte ", begin, ")");
  listed.tensor.shape = read_shape(cursor, what);
  auto number = cursor.read<uint32_t>(what);
  const auto* type = find_ggml_type(number);
  DST_CHECK_AS(DataCorruption, type != nullptr, cursor.path(), ": ", what, " has the unknown type ",
               number);
  listed.tensor.type = type->type;
  listed.offset = cursor.read<uint64_t>(what);
  DST_CHECK_AS(DataCorruption, listed.offset % alignment == 0, cursor.path(), ": ", what,
               " begins at ", listed.offset, ", which is no multiple of the alignment ", alignment);

  const auto& shape = listed.tensor.shape;
  auto innermost = static_cast<uint64_t>(shape.empty() ? 1 : shape.back());
  DST_CHECK_AS(DataCorruption, innermost % type->values_per_block == 0, cursor.path(), ": ", what,
               " has rows of ", innermost, " values, but ", type->name, " comes in blocks of ",
               type->values_per_block);
  auto num_values = checked_product(shape, 1);
  auto num_bytes = num_values
                       ? checked_mul(*num_values / type->values_per_block, type->bytes_per_block)
                       : std::nullopt;
  DST_CHECK_AS(DataCorruption, num_bytes.has_value(), cursor.path(), ": ", what, " has shape ",
               shape, ": its size overflows");
  listed.num_bytes = *num_bytes;
  return listed;
}

// `data_begin` is the byte of the file from which offsets count.
void check_no_overlap(const std::vector<ListedTensor>& listed, uint64_t data_begin,
                      const std::string& path) {
  std::vector<const ListedTensor*> by_offset;
  for (const auto& tensor : listed)
    if (tensor.num_bytes > 0) by_offset.push_back(&tensor);
  std::sort(by_offset.begin(), by_offset.end(),
            [](auto* a, auto* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < by_offset.size(); ++i) {
    const auto& before = *by_offset[i - 1];
    DST_CHECK_AS(DataCorruption, by_offset[i]->offset - before.offset >= before.num_bytes, path,
                 ": tensor \"", before.tensor.name, "\" (bytes ", data_begin + before.offset,
                 " to ", data_begin + before.offset + before.num_bytes, ") and tensor \"",
                 by_offset[i]->tensor.name, "\" (from byte ", data_begin + by_offset[i]->offset,
                 ") overlap");
  }
}

void place(ListedTensor& listed, std::span<const std::byte> data, uint64_t data_begin,
           const std::string& path) {
  auto end = checked_add(listed.offset, listed.num_bytes);
  DST_CHECK_AS(DataCorruption, end && *end <= data.size(), path, ": tensor \"", listed.tensor.name,
               "\" takes ", listed.num_bytes, " bytes from byte ", listed.offset,
               " of the data, which begins at byte ", data_begin, " and has only ", data.size(),
               " bytes: the file is cut; copy it again");
  listed.tensor.bytes = data.subspan(listed.offset, listed.num_bytes);
}

}  // namespace

GgufHeader parse_gguf_header(ByteCursor& cursor) {
  auto magic = cursor.read<uint32_t>("the magic");
  DST_CHECK_AS(DataCorruption, magic == kMagic, cursor.path(),
               " does not begin with \"GGUF\": it is another kind of file");
  GgufHeader header;
  header.version = cursor.read<uint32_t>("the version");
  DST_CHECK_AS(DataCorruption, header.version == 2 || header.version == 3, cursor.path(),
               " is GGUF version ", header.version,
               ", wanted 2 or 3 (little-endian); convert it with a current llama.cpp");
  header.num_tensors = cursor.read<uint64_t>("the tensor count");
  header.num_metadata = cursor.read_count(kMinMetadataBytes, "the metadata count");
  cursor.check_count(header.num_tensors, kMinTensorInfoBytes, "the tensor count");
  return header;
}

std::map<std::string, GgufValue, std::less<>> parse_gguf_metadata(ByteCursor& cursor,
                                                                  uint64_t count) {
  std::map<std::string, GgufValue, std::less<>> metadata;
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t begin = cursor.position();
    auto key = cursor.read_string("a metadata key");
    std::string what = concat("metadata \"", key, "\" (from byte ", begin, ")");
    auto type = cursor.read<uint32_t>(what);
    bool is_array = static_cast<ValueType>(type) == ValueType::kArray;
    auto value = is_array ? read_array(cursor, what) : read_scalar(cursor, type, what);
    DST_CHECK_AS(DataCorruption, metadata.emplace(key, std::move(value)).second, cursor.path(),
                 ": ", what, " stands in the file twice");
  }
  return metadata;
}

std::vector<GgufTensor> parse_gguf_tensors(ByteCursor& cursor, uint64_t count, uint64_t alignment,
                                           std::span<const std::byte> file) {
  std::vector<ListedTensor> listed;
  listed.reserve(count);
  for (uint64_t i = 0; i < count; ++i) listed.push_back(read_listed_tensor(cursor, alignment));

  std::unordered_set<std::string_view> names;
  for (const auto& entry : listed)
    DST_CHECK_AS(DataCorruption, names.insert(entry.tensor.name).second, cursor.path(),
                 ": tensor \"", entry.tensor.name, "\" stands in the file twice");

  uint64_t data_begin = (cursor.position() + alignment - 1) / alignment * alignment;
  auto data = file.subspan(std::min<uint64_t>(data_begin, file.size()));
  for (auto& entry : listed) place(entry, data, data_begin, cursor.path());
  check_no_overlap(listed, data_begin, cursor.path());

  std::vector<GgufTensor> tensors;
  tensors.reserve(count);
  for (auto& entry : listed) tensors.push_back(std::move(entry.tensor));
  return tensors;
}

}  // namespace deepseek_train::formats
