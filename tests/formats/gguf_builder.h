// Builds GGUF files byte by byte, right or wrong, for tests.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace deepseek_train::formats {

template <typename T>
std::string raw(T value) {
  std::string text(sizeof(T), '\0');
  std::memcpy(text.data(), &value, sizeof(T));
  return text;
}

inline std::string raw_string(std::string_view text) {
  return raw<uint64_t>(text.size()).append(text);
}

class GgufBuilder {
 public:
  GgufBuilder& metadata(std::string_view key, uint32_t type, std::string_view value) {
    metadata_ += raw_string(key) + raw(type) + std::string(value);
    ++num_metadata;
    return *this;
  }
  // `dimensions` as in the file: innermost first.
  GgufBuilder& tensor(std::string_view name, const std::vector<uint64_t>& dimensions, uint32_t type,
                      uint64_t offset) {
    tensors_ += raw_string(name) + raw(static_cast<uint32_t>(dimensions.size()));
    for (uint64_t dimension : dimensions) tensors_ += raw(dimension);
    tensors_ += raw(type) + raw(offset);
    ++num_tensors;
    return *this;
  }
  GgufBuilder& data(std::string_view bytes) {
    data_ += bytes;
    return *this;
  }
  std::string build() const {
    std::string file =
        magic + raw(version) + raw(num_tensors) + raw(num_metadata) + metadata_ + tensors_;
    if (!data_.empty()) file.append((alignment - file.size() % alignment) % alignment, '\0');
    return file + data_;
  }

  std::string magic = "GGUF";
  uint32_t version = 3;
  uint64_t num_tensors = 0;
  uint64_t num_metadata = 0;
  uint64_t alignment = 32;

 private:
  std::string metadata_;
  std::string tensors_;
  std::string data_;
};

// Value types of the format.
enum : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32Value,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64Value
};

}  // namespace deepseek_train::formats
