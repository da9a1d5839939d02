// Any bytes as a GGUF file: metadata and tensors whose values can be computed, or one of our
// errors.
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "deepseek_train/core/error.h"
#include "deepseek_train/formats/gguf.h"
#include "tests/formats/memory_env.h"

namespace deepseek_train::formats {
namespace {

void read_values(const GgufTensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
  try {
    dequantize(tensor, values);
  } catch (const InvalidArgument&) {  // a type that can be opened but not computed
  }
}

void read_metadata(const GgufFile& file) {
  for (const auto& [key, value] : file.metadata()) {
    if (file.find_metadata(key) != &value) std::abort();
    try {
      file.get_uint(key);
    } catch (const InvalidArgument&) {
    }
  }
}

void read_file(std::string_view bytes) {
  try {
    MemoryEnv env(bytes);
    const GgufFile file(env, "fuzzed");
    read_metadata(file);
    for (const auto& tensor : file.tensors()) read_values(tensor);
  } catch (const DataCorruption&) {
  }
}

}  // namespace
}  // namespace deepseek_train::formats

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  deepseek_train::formats::read_file({reinterpret_cast<const char*>(data), size});
  return 0;
}
