// Any bytes as a safetensors file and as an index of shards: tensors that lie inside the file, or
// one of our errors.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "deepseek_train/core/error.h"
#include "deepseek_train/formats/safetensors.h"
#include "src/formats/safetensors_header.h"
#include "src/formats/safetensors_index.h"
#include "tests/formats/memory_env.h"

namespace deepseek_train::formats {
namespace {

// libFuzzer reports an abort with the input that led to it.
void require(bool condition) {
  if (!condition) std::abort();
}

// The tensors fill the file from the header to its end, and every byte can be read.
void check_tensors(const SafetensorsFile& file, size_t file_size) {
  size_t num_bytes = 0;
  for (const auto& tensor : file.tensors()) {
    require(tensor.bytes.size() == size_bytes(tensor));
    require(!describe(tensor).empty());
    unsigned sum = 0;
    for (const std::byte byte : tensor.bytes) sum += static_cast<unsigned>(byte);
    require(sum <= 255u * tensor.bytes.size());
    num_bytes += tensor.bytes.size();
  }
  require(num_bytes < file_size);
}

// What was read can be written, and reads the same again.
void check_round_trip(const SafetensorsFile& file) {
  const auto text =
      format_safetensors_header({file.tensors().begin(), file.tensors().end()}, file.metadata());
  const auto again = parse_safetensors_header(
      std::string_view(text).substr(kSafetensorsLengthBytes), "round trip");
  require(again.metadata == file.metadata() && again.tensors.size() == file.tensors().size());
  for (size_t i = 0; i < again.tensors.size(); ++i) {
    const auto& info = again.tensors[i].info;
    require(file.get(info.name).shape == info.shape && file.get(info.name).dtype == info.dtype);
  }
}

void read_file(std::string_view bytes) {
  try {
    MemoryEnv env(bytes);
    const SafetensorsFile file(env, "fuzzed");
    check_tensors(file, bytes.size());
    check_round_trip(file);
  } catch (const DataCorruption&) {
  }
}

void read_index(std::string_view bytes) {
  try {
    parse_safetensors_index(bytes, "fuzzed");
  } catch (const DataCorruption&) {
  }
}

}  // namespace
}  // namespace deepseek_train::formats

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  deepseek_train::formats::read_file(bytes);
  deepseek_train::formats::read_index(bytes);
  return 0;
}
