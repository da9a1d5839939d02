// For the parity tests: writes the float32 logits of one sequence to a file.
// usage: logits_tool MODEL IDS_FILE (int64) OUTPUT [reference] [bf16]
#include <cstring>
#include <fstream>
#include <iostream>

#include "deepseek_train/core/env.h"
#include "deepseek_train/tuning/model_loader.h"

int main(int argc, char** argv) try {
  using namespace deepseek_train;
  tuning::LoadModelOptions options;
  for (int i = 4; i < argc; ++i) {
    if (std::strcmp(argv[i], "reference") == 0) options.numerics = models::Numerics::kReference;
    if (std::strcmp(argv[i], "bf16") == 0) options.compute_dtype = at::kBFloat16;
  }
  torch::InferenceMode inference;
  auto loaded = tuning::load_model(posix_env(), argv[1], options);
  auto text = read_text(posix_env(), argv[2]);
  auto ids = torch::empty({1, static_cast<int64_t>(text.size() / sizeof(int64_t))}, at::kLong);
  std::memcpy(ids.data_ptr(), text.data(), text.size());
  auto logits = loaded.model->logits(loaded.model->hidden_states(ids)).to(at::kFloat).contiguous();
  std::ofstream(argv[3], std::ios::binary)
      .write(static_cast<const char*>(logits.data_ptr()),
             static_cast<std::streamsize>(logits.nbytes()));
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
