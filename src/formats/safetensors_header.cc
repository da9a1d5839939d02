#include "src/formats/safetensors_header.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>

#include "deepseek_train/core/error.h"
#include "src/formats/checked_math.h"
#include "src/formats/strict_json.h"

namespace deepseek_train::formats {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kMetadataKey = "__metadata__";

struct DTypeName {
  DType dtype;
  std::string_view name;
};
constexpr std::array<DTypeName, 12> kDTypeNames = {{{DType::kFloat32, "F32"},
                                                    {DType::kFloat64, "F64"},
                                                    {DType::kBFloat16, "BF16"},
                                                    {DType::kFloat16, "F16"},
                                                    {DType::kInt64, "I64"},
                                                    {DType::kInt32, "I32"},
                                                    {DType::kInt8, "I8"},
                                                    {DType::kUInt8, "U8"},
                                                    {DType::kBool, "BOOL"},
                                                    {DType::kFloat8E4M3, "F8_E4M3"},
                                                    {DType::kFloat8E5M2, "F8_E5M2"},
                                                    {DType::kFloat8E8M0, "F8_E8M0"}}};

std::optional<DType> dtype_from_safetensors_name(std::string_view name) {
  for (const auto& entry : kDTypeNames)
    if (entry.name == name) return entry.dtype;
  return std::nullopt;
}

StringMap parse_metadata(const Json& json, const std::string& where) {
  DST_CHECK_AS(DataCorruption, json.is_object(), where, ": __metadata__ is ", json.type_name(),
               ", wanted an object");
  StringMap metadata;
  for (const auto& [key, value] : json.items()) {
    DST_CHECK_AS(DataCorruption, value.is_string(), where, ": __metadata__[\"", key, "\"] is ",
                 value.type_name(), ", wanted a string");
    metadata.emplace(key, value.get<std::string>());
  }
  return metadata;
}

const Json& field(const Json& tensor, const char* key, const std::string& where) {
  auto found = tensor.find(key);
  DST_CHECK_AS(DataCorruption, found != tensor.end(), where, " has no \"", key, "\"");
  return *found;
}

std::vector<uint64_t> parse_sizes(const Json& json, const char* key, const std::string& where) {
  DST_CHECK_AS(DataCorruption, json.is_array(), where, ": ", key, " is ", json.type_name(),
               ", wanted an array");
  std::vector<uint64_t> sizes;
  for (const auto& size : json) {
    DST_CHECK_AS(
        DataCorruption,
        size.is_number_unsigned() && size.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX),
        where, ": ", key, " holds ",
        size.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 40),
        ", wanted integers from 0 to 2^63 - 1");
    sizes.push_back(size.get<uint64_t>());
  }
  return sizes;
}

// `data_begin` is the file's byte at which the header ends and the data begins.
PlacedTensor parse_tensor(const std::string& name, const Json& json, uint64_t data_begin,
                          const std::string& path) {
  std::string where =
      concat(path, ": tensor \"", name, "\" (in the header, bytes 8 to ", data_begin, ")");
  DST_CHECK_AS(DataCorruption, json.is_object(), where, " is ", json.type_name(),
               ", wanted an object");
  const Json& dtype_name = field(json, "dtype", where);
  DST_CHECK_AS(DataCorruption, dtype_name.is_string(), where, ": dtype is ", dtype_name.type_name(),
               ", wanted a string");
  auto dtype = dtype_from_safetensors_name(dtype_name.get_ref<const std::string&>());
  DST_CHECK_AS(DataCorruption, dtype.has_value(), where, " has dtype ",
               dtype_name.get_ref<const std::string&>(), ", which this library does not read");
  auto shape = parse_sizes(field(json, "shape", where), "shape", where);
  auto offsets = parse_sizes(field(json, "data_offsets", where), "data_offsets", where);
  DST_CHECK_AS(DataCorruption, offsets.size() == 2 && offsets[0] <= offsets[1], where,
               " has data_offsets ", offsets, ", wanted [begin, end]");

  where = concat(path, ": tensor \"", name, "\" (bytes ", data_begin + offsets[0], " to ",
                 data_begin + offsets[1], ")");
  PlacedTensor tensor{{name, *dtype, {shape.begin(), shape.end()}}, offsets[0], offsets[1]};
  auto wanted = checked_product(tensor.info.shape, size_bytes(*dtype));
  DST_CHECK_AS(DataCorruption, wanted.has_value(), where, " has shape ", tensor.info.shape,
               ": its size overflows");
  DST_CHECK_AS(DataCorruption, *wanted == offsets[1] - offsets[0], where, " of shape ",
               tensor.info.shape, " and dtype ", dtype_name.get_ref<const std::string&>(),
               " takes ", *wanted, " bytes, but its data_offsets span ", offsets[1] - offsets[0]);
  return tensor;
}

// Sorted by offset, each tensor must begin where the one before it ended.
void check_contiguous(const std::vector<PlacedTensor>& tensors, uint64_t data_begin,
                      const std::string& path) {
  uint64_t expected = 0;
  for (const auto& tensor : tensors) {
    DST_CHECK_AS(DataCorruption, tensor.begin == expected, path, ": tensor \"", tensor.info.name,
                 "\" (bytes ", data_begin + tensor.begin, " to ", data_begin + tensor.end,
                 ") begins where it should not, wanted byte ", data_begin + expected, ": tensors ",
                 tensor.begin < expected ? "overlap" : "leave a hole");
    expected = tensor.end;
  }
}

std::string json_string(std::string_view text) {
  try {
    return Json(text).dump();
  } catch (const Json::exception&) {
    throw InvalidArgument(
        "a tensor's name or metadata is not valid UTF-8, which safetensors cannot hold");
  }
}

std::string metadata_text(const StringMap& metadata) {
  std::string text;
  for (const auto& [key, value] : metadata)
    text += concat(text.empty() ? "" : ",", json_string(key), ":", json_string(value));
  return concat("\"", kMetadataKey, "\":{", text, "}");
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text;
  for (int64_t dimension : shape) text += concat(text.empty() ? "" : ",", dimension);
  return "[" + text + "]";
}

}  // namespace

std::string_view safetensors_name_of(DType dtype) {
  for (const auto& entry : kDTypeNames)
    if (entry.dtype == dtype) return entry.name;
  throw Internal(concat("DType ", name_of(dtype), " has no safetensors name"));
}

uint64_t size_bytes(const TensorInfo& tensor) {
  auto size = checked_product(tensor.shape, size_bytes(tensor.dtype));
  DST_CHECK(size.has_value(), "tensor \"", tensor.name, "\" has shape ", tensor.shape,
            ": dimensions must not be negative and the size must fit 63 bits");
  return *size;
}

SafetensorsHeader parse_safetensors_header(std::string_view json_text, const std::string& path) {
  const uint64_t data_begin = kSafetensorsLengthBytes + json_text.size();
  const std::string where = concat(path, ": the header (bytes 8 to ", data_begin, ")");
  DST_CHECK_AS(DataCorruption, json_text.starts_with('{'), where,
               " must begin with '{'; is this another kind of file?");
  const Json json = parse_strict_json(json_text, where);
  SafetensorsHeader header;
  for (const auto& [name, value] : json.items()) {
    if (name == kMetadataKey) {
      header.metadata = parse_metadata(value, where);
    } else {
      header.tensors.push_back(parse_tensor(name, value, data_begin, path));
    }
  }
  // The end breaks the tie of an empty tensor with the one that begins at the same place.
  std::stable_sort(header.tensors.begin(), header.tensors.end(),
                   [](const PlacedTensor& a, const PlacedTensor& b) {
                     return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
                   });
  check_contiguous(header.tensors, data_begin, path);
  return header;
}

std::string format_safetensors_header(const std::vector<TensorInfo>& tensors,
                                      const StringMap& metadata) {
  std::string json = "{";
  if (!metadata.empty()) json += metadata_text(metadata);
  uint64_t offset = 0;
  std::unordered_set<std::string_view> names;
  for (const auto& tensor : tensors) {
    DST_CHECK(names.insert(tensor.name).second, "tensor \"", tensor.name,
              "\" is given twice; names must differ");
    DST_CHECK(tensor.name != kMetadataKey, "a tensor cannot be named ", kMetadataKey,
              "; choose another name");
    auto end = checked_add(offset, size_bytes(tensor));
    DST_CHECK(end && *end <= static_cast<uint64_t>(INT64_MAX),
              "the tensors together pass 2^63 bytes");
    json += concat(json.size() > 1 ? "," : "", json_string(tensor.name), ":{\"dtype\":\"",
                   safetensors_name_of(tensor.dtype), "\",\"shape\":", shape_text(tensor.shape),
                   ",\"data_offsets\":[", offset, ",", *end, "]}");
    offset = *end;
  }
  json += "}";
  json.append(
      (kSafetensorsLengthBytes - json.size() % kSafetensorsLengthBytes) % kSafetensorsLengthBytes,
      ' ');
  DST_CHECK(json.size() <= kMaxSafetensorsHeaderBytes, "the header takes ", json.size(),
            " bytes, the format allows ", kMaxSafetensorsHeaderBytes,
            "; split the tensors over several files");
  uint64_t length = json.size();
  std::string text(kSafetensorsLengthBytes, '\0');
  std::memcpy(text.data(), &length, kSafetensorsLengthBytes);
  return text + json;
}

}  // namespace deepseek_train::formats
