// FP8 blocks to bf16 and back on one thread, against a copy that reads and writes as many bytes:
// what memory allows. The matrix is larger than the second-level cache.
//   bench_fp8_block [--repeats N]
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "bench/support/timing.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/quantization/fp8_block.h"

namespace deepseek_train::bench {
namespace {

using namespace quantization;

void run(int repeats) {
  const Fp8BlockShape shape{7168, 4096};
  const auto count = static_cast<size_t>(shape.num_values());
  std::vector<BFloat16> weight(count), decoded(count);
  std::vector<Float8E4M3> values(count);
  std::vector<float> scales(static_cast<size_t>(shape.num_scales()));
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.02f);
  for (auto& value : weight) value = to_bfloat16(normal(random));
  const std::span<const BFloat16> source(weight);
  std::vector<std::byte> from(count * 3 / 2), to(count * 3 / 2);

  std::vector<Contender> all = {
      {"scales",
       [&] { compute_fp8_block_scales(shape, source, Fp8ScaleFormat::kFloat32, scales); }},
      {"encode", [&] { encode_fp8_blocks(shape, source, scales, values); }},
      {"decode", [&] { decode_fp8_blocks(shape, values, scales, std::span(decoded)); }},
      // Reads and writes 3 bytes for each value, as encoding and decoding do.
      {"memcpy", [&] { std::memcpy(to.data(), from.data(), from.size()); }},
  };
  run_interleaved(all, repeats);
  for (size_t i = 0; i < count; i += 1001)
    DST_CHECK_AS(
        Internal,
        decoded[i].bits ==
            to_bfloat16(to_float(values[i]) * scales[i / 4096 / 128 * 32 + i % 4096 / 128]).bits,
        "value ", i, " is decoded wrong");
  std::printf("FP8 blocks, [%ld, %ld], one thread, medians of %d\n", long(shape.rows),
              long(shape.columns), repeats);
  const std::string config =
      concat("{\"rows\": ", shape.rows, ", \"columns\": ", shape.columns, ", \"threads\": 1}");
  for (size_t i = 0; i < 3; ++i) {
    std::printf("  %-8s %6.2f * 10^9 values/s\n", all[i].name.c_str(),
                static_cast<double>(count) * 1e-3 / all[i].median());
    std::printf("%s\n", json_line(concat("fp8_block_", all[i].name), all[i].median(), "memcpy",
                                  all[3].median(), config)
                            .c_str());
  }
}

}  // namespace
}  // namespace deepseek_train::bench

int main(int argc, char** argv) try {
  int repeats = 15;
  if (argc == 3 && !std::strcmp(argv[1], "--repeats")) repeats = std::max(1, std::atoi(argv[2]));
  deepseek_train::bench::run(repeats);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_fp8_block: %s\n", error.what());
  return 1;
}
