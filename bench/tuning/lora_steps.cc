// Training steps of an adapter over a frozen model, for bench_lora.py.
// usage: lora_steps MODEL ADAPTER IDS.safetensors DTYPE STEPS
// Prints one JSON object: loss and seconds of every step, memory before and at its peak.
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>

#include "deepseek_train/core/error.h"
#include "deepseek_train/training/adamw.h"
#include "deepseek_train/training/losses.h"
#include "deepseek_train/tuning/model_loader.h"
#include "deepseek_train/tuning/peft_adapter.h"

namespace {

using namespace deepseek_train;

class Model final : public training::CausalLm {
 public:
  explicit Model(models::Transformer& model) : model_(model) {}
  torch::nn::Module& module() override { return model_; }
  torch::Tensor hidden_states(const torch::Tensor& ids) override {
    return model_.hidden_states(ids);
  }
  torch::Tensor logits(const torch::Tensor& hidden) override { return model_.logits(hidden); }

 private:
  models::Transformer& model_;
};

// Every token is to be predicted but the first of a row, as with transformers' labels = input_ids.
data::Batch batch_of(const torch::Tensor& ids) {
  data::Batch batch;
  batch.rows = ids.size(0);
  batch.columns = ids.size(1);
  const auto* begin = ids.const_data_ptr<int64_t>();
  batch.input_ids.assign(begin, begin + ids.numel());
  batch.labels = batch.input_ids;
  batch.lengths.assign(static_cast<size_t>(batch.rows), batch.columns);
  return batch;
}

double memory_mib(const std::string& key) {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word)
    if (word == key + ":") {
      double kib = 0;
      status >> kib;
      return kib / 1024;
    }
  throw NotFound(key + " is not in /proc/self/status");
}

void print_list(const char* name, const std::vector<double>& values) {
  std::printf("\"%s\": [", name);
  for (size_t i = 0; i < values.size(); ++i) std::printf("%s%.6f", i ? ", " : "", values[i]);
  std::printf("], ");
}

void run(char** argv) {
  auto& env = posix_env();
  auto loaded =
      tuning::load_model(env, argv[1], {.compute_dtype = tuning::compute_dtype_by_name(argv[4])});
  loaded.checkpoint.reset();
  tuning::LoraAdapters adapters(loaded.model);
  tuning::load_adapter(env, argv[2], adapters, "default");
  auto batch =
      batch_of(formats::as_tensor(formats::SafetensorsFile(env, argv[3]).get("input_ids")));
  Model model(*loaded.model);
  loaded.model->train();
  training::AdamW optimizer(*loaded.model, {.weight_decay = 0.01});
  const auto count = static_cast<double>(batch.rows * (batch.columns - 1));
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak counts from here
  const double before = memory_mib("VmRSS");
  std::vector<double> losses, seconds;
  for (int step = 0; step < std::stoi(argv[5]); ++step) {
    const auto begin = std::chrono::steady_clock::now();
    auto loss = training::cross_entropy_sum(model, batch) / count;
    loss.backward();
    optimizer.step(1e-3);
    loaded.model->zero_grad();
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    losses.push_back(loss.item<double>());
  }
  std::printf("{");
  print_list("losses", losses);
  print_list("seconds", seconds);
  std::printf("\"before_mib\": %.1f, \"peak_mib\": %.1f}\n", before, memory_mib("VmHWM"));
}

}  // namespace

int main(int argc, char** argv) try {
  DST_CHECK(argc == 6, "usage: lora_steps MODEL ADAPTER IDS.safetensors DTYPE STEPS");
  torch::set_num_threads(2);
  run(argv);
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
