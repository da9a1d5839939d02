// Our side of bench_generate.py: reads a line, generates, prints one JSON object; until the input
// ends. usage: generate_server MODEL float32|bfloat16 PROMPT_TOKENS NEW_TOKENS
#include <chrono>
#include <iostream>
#include <string>

#include "deepseek_train/core/env.h"
#include "deepseek_train/models/generate.h"
#include "deepseek_train/tuning/model_loader.h"

int main(int argc, char** argv) try {
  using namespace deepseek_train;
  if (argc != 5) throw std::runtime_error("wanted MODEL DTYPE PROMPT_TOKENS NEW_TOKENS");
  auto loaded = tuning::load_model(posix_env(), argv[1],
                                   {.compute_dtype = tuning::compute_dtype_by_name(argv[2])});
  // The same prompt on both sides: ids 1000, 1007, 1014, ...
  std::vector<int32_t> prompt;
  for (int32_t i = 0; i < std::stoi(argv[3]); ++i) prompt.push_back(1000 + 7 * i);
  for (std::string line; std::getline(std::cin, line);) {
    auto begin = std::chrono::steady_clock::now();
    auto rows = models::generate(*loaded.model, {prompt}, {.max_new_tokens = std::stoll(argv[4])});
    auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    std::cout << "{\"seconds\": " << seconds << ", \"tokens\": [";
    for (size_t i = 0; i < rows[0].size(); ++i) std::cout << (i ? ", " : "") << rows[0][i];
    std::cout << "]}" << std::endl;
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
