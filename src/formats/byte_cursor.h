// Reads little-endian values from a byte range and never past its end.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "deepseek_train/core/error.h"

namespace deepseek_train::formats {

static_assert(std::endian::native == std::endian::little,
              "values are copied as they lie in the file");

// Not thread-safe. `what` names the value being read, for the error of a cut file.
class ByteCursor {
 public:
  ByteCursor(std::span<const std::byte> bytes, const std::string& path)
      : bytes_(bytes), path_(path) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }
  const std::string& path() const { return path_; }

  template <typename T>
  T read(std::string_view what) {
    require(sizeof(T), what);
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  // A string of GGUF: its length as u64, then its bytes.
  std::string read_string(std::string_view what) {
    auto length = read<uint64_t>(what);
    require(length, what);
    std::string text(reinterpret_cast<const char*>(bytes_.data()) + position_, length);
    position_ += length;
    return text;
  }

  // A count of things of at least `min_bytes` each: more than fit into the rest of the file is
  // refused here, before anybody reserves memory for them.
  uint64_t read_count(uint64_t min_bytes, std::string_view what) {
    auto count = read<uint64_t>(what);
    check_count(count, min_bytes, what);
    return count;
  }

  void check_count(uint64_t count, uint64_t min_bytes, std::string_view what) const {
    DST_CHECK_AS(DataCorruption, count <= remaining() / min_bytes, path_, ": ", what, " is ", count,
                 ", more than the remaining ", remaining(),
                 " bytes can hold: the file is cut or damaged");
  }

 private:
  void require(uint64_t num_bytes, std::string_view what) const {
    DST_CHECK_AS(DataCorruption, num_bytes <= remaining(), path_, ": ", what, " needs ", num_bytes,
                 " bytes at byte ", position_, ", the file ends after ", remaining(),
                 ": it is cut; copy it again");
  }

  std::span<const std::byte> bytes_;
  const std::string& path_;
  uint64_t position_ = 0;
};

}  // namespace deepseek_train::formats
