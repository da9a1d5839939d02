// Checked access to a GGUF file's metadata.
#include <optional>

#include "deepseek_train/core/error.h"
#include "deepseek_train/formats/gguf.h"

namespace deepseek_train::formats {
namespace {

std::string_view type_name(const GgufValue& value) {
  struct Name {
    std::string_view operator()(bool) const { return "a bool"; }
    std::string_view operator()(uint64_t) const { return "an unsigned integer"; }
    std::string_view operator()(int64_t) const { return "a signed integer"; }
    std::string_view operator()(double) const { return "a float"; }
    std::string_view operator()(const std::string&) const { return "a string"; }
    std::string_view operator()(const std::vector<bool>&) const { return "an array of bools"; }
    std::string_view operator()(const std::vector<int64_t>&) const {
      return "an array of integers";
    }
    std::string_view operator()(const std::vector<double>&) const { return "an array of floats"; }
    std::string_view operator()(const std::vector<std::string>&) const {
      return "an array of strings";
    }
  };
  return std::visit(Name{}, value);
}

[[noreturn]] void throw_type(const std::string& path, std::string_view key, const GgufValue& found,
                             std::string_view wanted) {
  throw InvalidArgument(
      concat(path, ": metadata \"", key, "\" is ", type_name(found), ", wanted ", wanted));
}

template <typename T>
const T& get_as(const std::string& path, std::string_view key, const GgufValue& value,
                std::string_view wanted) {
  const T* typed = std::get_if<T>(&value);
  if (typed == nullptr) throw_type(path, key, value, wanted);
  return *typed;
}

}  // namespace

const GgufValue* GgufFile::find_metadata(std::string_view key) const {
  auto found = metadata_.find(key);
  return found == metadata_.end() ? nullptr : &found->second;
}

const GgufValue& GgufFile::get_metadata(std::string_view key) const {
  if (const GgufValue* value = find_metadata(key)) return *value;
  std::vector<std::string> keys;
  for (const auto& [name, value] : metadata_) keys.push_back(name);
  auto nearest = nearest_word(key, keys);
  throw NotFound(concat(path(), " has no metadata \"", key, "\"",
                        nearest.empty() ? "" : concat("; the nearest key is \"", nearest, "\"")));
}

bool GgufFile::get_bool(std::string_view key) const {
  return get_as<bool>(path(), key, get_metadata(key), "a bool");
}

uint64_t GgufFile::get_uint(std::string_view key) const {
  const GgufValue& value = get_metadata(key);
  if (const auto* number = std::get_if<int64_t>(&value)) {
    DST_CHECK(*number >= 0, path(), ": metadata \"", key, "\" is ", *number,
              ", wanted a number of at least 0");
    return static_cast<uint64_t>(*number);
  }
  return get_as<uint64_t>(path(), key, value, "an unsigned integer");
}

double GgufFile::get_float(std::string_view key) const {
  const GgufValue& value = get_metadata(key);
  if (const auto* number = std::get_if<int64_t>(&value)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<uint64_t>(&value)) return static_cast<double>(*number);
  return get_as<double>(path(), key, value, "a float");
}

const std::string& GgufFile::get_string(std::string_view key) const {
  return get_as<std::string>(path(), key, get_metadata(key), "a string");
}

const std::vector<std::string>& GgufFile::get_strings(std::string_view key) const {
  return get_as<std::vector<std::string>>(path(), key, get_metadata(key), "an array of strings");
}

const std::vector<int64_t>& GgufFile::get_ints(std::string_view key) const {
  return get_as<std::vector<int64_t>>(path(), key, get_metadata(key), "an array of integers");
}

const std::vector<double>& GgufFile::get_floats(std::string_view key) const {
  return get_as<std::vector<double>>(path(), key, get_metadata(key), "an array of floats");
}

}  // namespace deepseek_train::formats
