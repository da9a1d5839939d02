// What quantization-aware training adds to a layer's forward: fake-quantizing the weight while it
// is cast to bf16, against the cast alone, which plain training does too, and against a chain of
// libtorch operations.
//   bench_fake_quantize [--threads N] [--repeats N]
#include <torch/torch.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "bench/support/timing.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/quantization/torch/fake_quantize.h"

namespace deepseek_train::bench {
namespace {

// What a trainer without a fused kernel does: one pass over memory for each step.
torch::Tensor eager_fake_quantize(const torch::Tensor& weight) {
  torch::Tensor scale = weight.abs().amax(-1, /*keepdim=*/true).div_(127.5f);
  scale.masked_fill_(scale == 0, std::numeric_limits<float>::epsilon());
  return weight.div(scale).add_(0.0).clamp_(-128, 127).round_().mul_(scale).to(torch::kBFloat16);
}

void bench_shape(int64_t n, int64_t k, int threads, int repeats) {
  const torch::Tensor weight = torch::randn({n, k}) * 0.02;
  DST_CHECK_AS(Internal,
               torch::equal(quantization::fake_quantize_channels(weight, torch::kBFloat16),
                            eager_fake_quantize(weight)),
               "the fused and the eager path differ");
  std::vector<Contender> all = {
      {"ours", [&] { quantization::fake_quantize_channels(weight, torch::kBFloat16); }},
      {"Tensor::to(bf16)", [&] { weight.to(torch::kBFloat16); }},
      {"eager chain", [&] { eager_fake_quantize(weight); }},
  };
  run_interleaved(all, repeats);
  const std::string config = concat("{\"n\": ", n, ", \"k\": ", k, ", \"threads\": ", threads, "}");
  for (size_t peer : {1, 2}) {
    std::printf("%s\n", json_line("fake_quantize_channels", all[0].median(), all[peer].name,
                                  all[peer].median(), config)
                            .c_str());
  }
}

}  // namespace
}  // namespace deepseek_train::bench

int main(int argc, char** argv) try {
  int threads = 1, repeats = 31;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!std::strcmp(argv[i], "--threads")) threads = std::max(1, std::atoi(argv[i + 1]));
    if (!std::strcmp(argv[i], "--repeats")) repeats = std::max(1, std::atoi(argv[i + 1]));
  }
  torch::NoGradGuard no_grad;
  at::set_num_threads(threads);
  for (auto [n, k] :
       {std::pair<int64_t, int64_t>{576, 576}, {1536, 576}, {5632, 2048}, {49152, 576}}) {
    deepseek_train::bench::bench_shape(n, k, threads, repeats);
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_fake_quantize: %s\n", error.what());
  return 1;
}
