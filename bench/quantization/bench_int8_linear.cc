// The INT8 layer end to end (quantize tokens, integer product, rescale) against libtorch's fp32 and
// bf16 linear and its own dynamic INT8, interleaved in one run. Shapes: SmolLM2-135M's layers and
// head, and a 2048 -> 5632 layer.
//   bench_int8_linear [--threads N] [--repeats N]
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/torch.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "bench/support/timing.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/quantization/torch/fake_quantize.h"
#include "deepseek_train/quantization/torch/int8_linear.h"

namespace deepseek_train::bench {
namespace {

struct Options {
  int threads = 1;
  int repeats = 15;
};

struct Shape {
  int64_t k;
  int64_t n;
};

constexpr Shape kShapes[] = {{576, 576},  {576, 192},   {576, 1536},
                             {1536, 576}, {576, 49152}, {2048, 5632}};
constexpr int64_t kTokens[] = {1, 16, 128, 512};

// libtorch's dynamic INT8 linear: FBGEMM, one scale for all tokens together.
class DynamicLinear {
 public:
  explicit DynamicLinear(const torch::Tensor& weight) : op_(find("quantized::linear_dynamic")) {
    const torch::Tensor scales = weight.abs().amax(1).div(127.5).to(torch::kFloat64);
    const torch::Tensor zeros = torch::zeros({weight.size(0)}, torch::kInt64);
    stack_ = {torch::quantize_per_channel(weight, scales, zeros, 0, torch::kQInt8), c10::IValue()};
    find("quantized::linear_prepack").callBoxed(&stack_);
    packed_ = stack_[0];
  }

  void run(const torch::Tensor& input) {
    stack_ = {input, packed_, /*reduce_range=*/false};
    op_.callBoxed(&stack_);
  }

 private:
  static c10::OperatorHandle find(const char* name) {
    return c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
  }

  c10::OperatorHandle op_;
  torch::jit::Stack stack_;
  c10::IValue packed_;
};

// Against the fake-quantized fp32 layer on the tokens timed.
void check(quantization::Int8LinearMethod& ours, const torch::Tensor& input,
           const torch::Tensor& weight) {
  const torch::Tensor some = input.narrow(0, 0, std::min<int64_t>(input.size(0), 16));
  const torch::Tensor wanted = quantization::FakeQuantizedLinearMethod(quantization::w8a8())
                                   .apply(some, weight, torch::Tensor());
  const double error = ((ours.apply(some, {}, {}) - wanted).norm() / wanted.norm()).item<double>();
  DST_CHECK_AS(Internal, error < 1e-5, "INT8 layer differs from the fake-quantized one by ", error);
}

struct Result {
  Shape shape;
  int64_t m;
  double ours_fp32, ours_bf16, fp32, bf16, dynamic;
};

// Layers of their own for the two input types, so that neither finds its weights in the cache
// because of the other.
struct Layers {
  explicit Layers(const torch::Tensor& weight)
      : quantized(quantization::quantize_channels(weight)),
        ours(quantized.values, quantized.scales),
        ours_bf16(quantized.values, quantized.scales),
        dynamic(weight) {}

  quantization::Int8Weight quantized;
  quantization::Int8LinearMethod ours, ours_bf16;
  DynamicLinear dynamic;
};

Result bench_one(Layers& layers, const torch::Tensor& weight, int64_t m, int repeats) {
  const torch::Tensor input = torch::randn({m, weight.size(1)}),
                      half_input = input.to(torch::kBFloat16);
  const torch::Tensor half_weight = weight.to(torch::kBFloat16);
  check(layers.ours, input, weight);
  std::vector<Contender> all = {
      {"ours, fp32", [&] { layers.ours.apply(input, {}, {}); }},
      {"ours, bf16", [&] { layers.ours_bf16.apply(half_input, {}, {}); }},
      {"fp32", [&] { at::linear(input, weight); }},
      {"bf16", [&] { at::linear(half_input, half_weight); }},
      {"dynamic", [&] { layers.dynamic.run(input); }},
  };
  run_interleaved(all, repeats);
  return {{weight.size(1), weight.size(0)},
          m,
          all[0].median(),
          all[1].median(),
          all[2].median(),
          all[3].median(),
          all[4].median()};
}

void print_table(const std::vector<Result>& results) {
  std::printf("%6s %6s %6s | %10s %10s | %10s %10s %10s | %6s %6s %6s\n", "M", "K", "N",
              "ours fp32", "ours bf16", "fp32", "bf16", "dynamic", "/fp32", "/bf16", "/dyn");
  for (const Result& r : results) {
    std::printf("%6ld %6ld %6ld | %10.1f %10.1f | %10.1f %10.1f %10.1f | %6.2f %6.2f %6.2f\n",
                long(r.m), long(r.shape.k), long(r.shape.n), r.ours_fp32, r.ours_bf16, r.fp32,
                r.bf16, r.dynamic, r.fp32 / r.ours_fp32, r.bf16 / r.ours_bf16,
                r.dynamic / r.ours_fp32);
  }
}

void print_json(const std::vector<Result>& results, int threads, const std::string& kernel) {
  for (const Result& r : results) {
    const auto config = [&](const char* dtype) {
      return concat("{\"m\": ", r.m, ", \"k\": ", r.shape.k, ", \"n\": ", r.shape.n,
                    ", \"input\": \"", dtype, "\", \"threads\": ", threads, ", \"kernel\": \"",
                    kernel, "\"}");
    };
    const auto print = [](const std::string& line) { std::printf("%s\n", line.c_str()); };
    print(json_line("int8_linear", r.ours_fp32, "at::linear fp32", r.fp32, config("fp32")));
    print(json_line("int8_linear", r.ours_bf16, "at::linear bf16", r.bf16, config("bf16")));
    print(json_line("int8_linear", r.ours_fp32, "quantized::linear_dynamic", r.dynamic,
                    config("fp32")));
  }
}

void run(const Options& options) {
  torch::NoGradGuard no_grad;
  torch::manual_seed(1);
  at::set_num_threads(options.threads);
  // As in a program that has run for a while: malloc keeps freed blocks of this size instead of
  // returning them.
  torch::ones({7 << 20});
  std::vector<Result> results;
  std::string kernel;
  for (const Shape& shape : kShapes) {
    const torch::Tensor weight = torch::randn({shape.n, shape.k}) * 0.02;
    Layers layers(weight);
    kernel = layers.ours.name();
    for (int64_t m : kTokens) results.push_back(bench_one(layers, weight, m, options.repeats));
  }
  std::printf("INT8 linear, microseconds (medians of %d), %d thread(s), %s\n", options.repeats,
              options.threads, kernel.c_str());
  print_table(results);
  print_json(results, options.threads, kernel);
}

}  // namespace
}  // namespace deepseek_train::bench

int main(int argc, char** argv) try {
  deepseek_train::bench::Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!std::strcmp(argv[i], "--threads")) options.threads = std::max(1, std::atoi(argv[i + 1]));
    if (!std::strcmp(argv[i], "--repeats")) options.repeats = std::max(1, std::atoi(argv[i + 1]));
  }
  deepseek_train::bench::run(options);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_int8_linear: %s\n", error.what());
  return 1;
}
