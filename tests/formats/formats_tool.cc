// For test_formats.py: lets Python check what the library reads and writes.
//   formats_tool rewrite IN.safetensors OUT.safetensors     reads a file and writes it again
//   formats_tool shard IN_FOLDER OUT_FOLDER MAX_SHARD_BYTES    writes the folder's tensors again,
//   split anew; prints how many bytes the process's peak of memory grew
//   formats_tool copy IN_FOLDER OUT.bin THREADS             all tensors by copy_tensors, in one
//   file formats_tool dequantize IN.gguf OUT_FOLDER              all tensors as raw float32, one
//   file each, by name formats_tool time IN.gguf                               seconds to
//   dequantize everything into warm memory, and the number of values
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <iostream>

#include "deepseek_train/core/error.h"
#include "deepseek_train/formats/gguf.h"
#include "deepseek_train/formats/safetensors.h"
#include "deepseek_train/formats/safetensors_folder.h"
#include "deepseek_train/formats/tensor_copy.h"

namespace deepseek_train::formats {
namespace {

void rewrite(const std::string& from, const std::string& to) {
  SafetensorsFile file(posix_env(), from);
  SafetensorsWriter writer(posix_env(), to, {file.tensors().begin(), file.tensors().end()},
                           file.metadata());
  for (const auto& tensor : file.tensors()) writer.write_next(tensor.bytes);
  writer.commit();
}

uint64_t peak_memory_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

void shard(const std::string& from, const std::string& to, uint64_t max_shard_bytes) {
  const SafetensorsFolder folder(posix_env(), from);
  std::vector<TensorInfo> tensors;
  for (const TensorView* tensor : folder.tensors()) tensors.push_back(*tensor);
  const auto before = peak_memory_bytes();
  const TensorView* last = nullptr;
  const auto source = [&](const TensorInfo& tensor) {
    if (last != nullptr) last->file->release(last->bytes);
    last = &folder.get(tensor.name);
    return last->bytes;
  };
  write_sharded(posix_env(), to, plan_shards(tensors, max_shard_bytes), source,
                folder.shards().front()->metadata());
  std::cout << peak_memory_bytes() - before << "\n";
}

void copy(const std::string& from, const std::string& to, int num_threads) {
  const SafetensorsFolder folder(posix_env(), from);
  uint64_t num_bytes = 0;
  for (const TensorView* tensor : folder.tensors()) num_bytes += tensor->bytes.size();
  std::vector<std::byte> values(num_bytes);
  std::vector<TensorCopy> copies;
  for (auto rest = std::span(values); const TensorView* tensor : folder.tensors()) {
    copies.push_back({tensor, std::nullopt, rest.first(tensor->bytes.size())});
    rest = rest.subspan(tensor->bytes.size());
  }
  copy_tensors(copies, num_threads);
  const auto out = posix_env().create(to);
  out->append(values);
  out->commit();
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
  if (arguments.size() == 4 && arguments[0] == "shard")
    return shard(arguments[1], arguments[2], std::stoull(arguments[3]));
  if (arguments.size() == 4 && arguments[0] == "copy")
    return copy(arguments[1], arguments[2], std::stoi(arguments[3]));
  if (arguments.size() == 3 && arguments[0] == "dequantize")
    return dequantize_all(arguments[1], arguments[2]);
  if (arguments.size() == 2 && arguments[0] == "time") return time_dequantize(arguments[1]);
  throw InvalidArgument(
      "usage: formats_tool rewrite IN OUT | shard IN OUT BYTES | copy IN OUT THREADS | dequantize "
      "IN FOLDER | time IN");
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
