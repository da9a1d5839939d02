// For test_formats.py: lets Python check what the library reads and writes.
//   formats_tool rewrite IN.safetensors OUT.safetensors     reads a file and writes it again
//   formats_tool dequantize IN.gguf OUT_FOLDER              all tensors as raw float32, one file
//   each, by name formats_tool time IN.gguf                               seconds to dequantize
//   everything into warm memory, and the number of values
#include <chrono>
#include <cstdio>
#include <exception>
#include <iostream>

#include "deepseek_train/core/error.h"
#include "deepseek_train/formats/gguf.h"
#include "deepseek_train/formats/safetensors.h"

namespace deepseek_train::formats {
namespace {

void rewrite(const std::string& from, const std::string& to) {
  SafetensorsFile file(posix_env(), from);
  SafetensorsWriter writer(posix_env(), to, {file.tensors().begin(), file.tensors().end()},
                           file.metadata());
  for (const auto& tensor : file.tensors()) writer.write_next(tensor.bytes);
  writer.commit();
}

void dequantize_all(const std::string& from, const std::string& folder) {
  GgufFile file(posix_env(), from);
  for (const auto& tensor : file.tensors()) {
    std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
    dequantize(tensor, values);
    auto out = posix_env().create(join_path(folder, tensor.name));
    out->append(std::as_bytes(std::span(values)));
    out->commit();
  }
}

void time_dequantize(const std::string& path) {
  GgufFile file(posix_env(), path);
  size_t largest = 0, total = 0;
  for (const auto& tensor : file.tensors())
    largest = std::max(largest, static_cast<size_t>(tensor.num_elements()));
  std::vector<float> buffer(largest);
  auto start = std::chrono::steady_clock::now();
  for (const auto& tensor : file.tensors()) {
    auto count = static_cast<size_t>(tensor.num_elements());
    dequantize(tensor, std::span(buffer).first(count));
    total += count;
  }
  std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  std::cout << elapsed.count() << " " << total << "\n";
}

void run(const std::vector<std::string>& arguments) {
  if (arguments.size() == 3 && arguments[0] == "rewrite")
    return rewrite(arguments[1], arguments[2]);
  if (arguments.size() == 3 && arguments[0] == "dequantize")
    return dequantize_all(arguments[1], arguments[2]);
  if (arguments.size() == 2 && arguments[0] == "time") return time_dequantize(arguments[1]);
  throw InvalidArgument("usage: formats_tool rewrite IN OUT | dequantize IN FOLDER | time IN");
}

}  // namespace
}  // namespace deepseek_train::formats

int main(int argc, char** argv) {
  try {
    deepseek_train::formats::run({argv + 1, argv + argc});
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
