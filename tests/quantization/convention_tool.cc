// For test_convention.py: applies our kernels to a tensor of a file, and prints the config we would
// export.
//   convention_tool INPUT.safetensors OUTPUT.safetensors    x F32 [R, C] -> scales, q_s8, fake_f32,
//   fake_bf16 per level convention_tool --config NAME...                        quantization_config
//   with these modules ignored
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "deepseek_train/core/error.h"
#include "deepseek_train/formats/safetensors.h"
#include "deepseek_train/quantization/compressed_tensors.h"
#include "deepseek_train/quantization/row_kernels.h"

namespace deepseek_train::quantization {
namespace {

struct Results {
  std::vector<float> scales;
  std::vector<int8_t> q_s8;
  std::vector<float> fake_f32;
  std::vector<BFloat16> fake_bf16;
};

Results run(const RowKernels& kernels, const float* x, int64_t rows, int64_t columns) {
  const size_t count = static_cast<size_t>(rows * columns);
  Results results{std::vector<float>(static_cast<size_t>(rows)), std::vector<int8_t>(count),
                  std::vector<float>(count), std::vector<BFloat16>(count)};
  kernels.quantize_f32_s8(x, rows, columns, results.q_s8.data(), results.scales.data());
  kernels.fake_quantize_f32_f32(x, rows, columns, results.fake_f32.data());
  kernels.fake_quantize_f32_bf16(x, rows, columns, results.fake_bf16.data());
  return results;
}

void convert(const std::string& input_path, const std::string& output_path) {
  const formats::SafetensorsFile input(posix_env(), input_path);
  const formats::TensorView& x = input.get("x");
  DST_CHECK(x.dtype == DType::kFloat32 && x.shape.size() == 2, "x must be F32 [rows, columns]");
  std::vector<float> values(x.bytes.size() / sizeof(float));
  std::copy(x.bytes.begin(), x.bytes.end(), std::as_writable_bytes(std::span(values)).begin());

  std::vector<formats::TensorInfo> tensors;
  std::vector<Results> results;
  for (SimdLevel level : supported_simd_levels()) {
    const std::string prefix = concat(name_of(level), ".");
    tensors.push_back({prefix + "scales", DType::kFloat32, {x.shape[0], 1}});
    tensors.push_back({prefix + "q_s8", DType::kInt8, x.shape});
    tensors.push_back({prefix + "fake_f32", DType::kFloat32, x.shape});
    tensors.push_back({prefix + "fake_bf16", DType::kBFloat16, x.shape});
    results.push_back(run(row_kernels(level), values.data(), x.shape[0], x.shape[1]));
  }
  formats::SafetensorsWriter output(posix_env(), output_path, tensors);
  for (const Results& result : results) {
    output.write_next(std::as_bytes(std::span(result.scales)));
    output.write_next(std::as_bytes(std::span(result.q_s8)));
    output.write_next(std::as_bytes(std::span(result.fake_f32)));
    output.write_next(std::as_bytes(std::span(result.fake_bf16)));
  }
  output.commit();
}

}  // namespace
}  // namespace deepseek_train::quantization

int main(int argc, char** argv) try {
  using namespace deepseek_train::quantization;
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (!arguments.empty() && arguments[0] == "--config") {
    std::cout << to_json({.scheme = w8a8(), .ignore = {arguments.begin() + 1, arguments.end()}});
    return 0;
  }
  if (arguments.size() != 2) {
    std::cerr << "usage: convention_tool INPUT OUTPUT | --config NAME...\n";
    return 2;
  }
  convert(arguments[0], arguments[1]);
  return 0;
} catch (const std::exception& error) {
  std::cerr << "convention_tool: " << error.what() << "\n";
  return 1;
}
