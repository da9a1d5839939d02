// For test_fp8.py: converts Hugging Face folders and prints by how many bytes the process's peak of
// memory grew.
//   fp8_tool to_bf16 FROM TO MAX_SHARD_BYTES
//   fp8_tool to_fp8 FROM TO MAX_SHARD_BYTES float32|ue8m0
#include <sys/resource.h>

#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "deepseek_train/core/error.h"
#include "deepseek_train/quantization/fp8_folder.h"

namespace deepseek_train::quantization {
namespace {

uint64_t peak_memory_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

void run(const std::vector<std::string>& arguments) {
  DST_CHECK(arguments.size() >= 4, "usage: fp8_tool to_bf16|to_fp8 FROM TO BYTES [SCALE_FORMAT]");
  const Fp8FolderOptions options{.num_threads = 2, .max_shard_bytes = std::stoull(arguments[3])};
  const auto before = peak_memory_bytes();
  if (arguments[0] == "to_bf16") {
    convert_fp8_to_bf16(posix_env(), arguments[1], arguments[2], options);
  } else {
    const auto format =
        arguments.at(4) == "ue8m0" ? Fp8ScaleFormat::kUe8m0 : Fp8ScaleFormat::kFloat32;
    convert_bf16_to_fp8(posix_env(), arguments[1], arguments[2], format, options);
  }
  std::cout << peak_memory_bytes() - before << "\n";
}

}  // namespace
}  // namespace deepseek_train::quantization

int main(int argc, char** argv) {
  try {
    deepseek_train::quantization::run({argv + 1, argv + argc});
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
