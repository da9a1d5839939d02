// What a run found, as numbers and as a page.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deepseek_train/training/checkpointer.h"

namespace deepseek_train::tuning {

// One model of the report: base, tuned, int8_ptq or int8_qat.
struct ModelReport {
  std::string key;
  std::string title;
  double accuracy = 0;
  std::pair<double, double> interval;
  double perplexity = 0;
  uint64_t bytes = 0;  // of the weights' file
  // Records that got the same answer from the tuned model; quantized models only.
  std::optional<double> agreement;
};

struct KernelReport {
  std::string name;           // the integer kernel
  int64_t int8_products = 0;  // integer matrix products of one forward pass
  bool lm_head_in_int8 = false;
};

struct Report {
  std::string name;
  int64_t num_test_records = 0;
  std::vector<ModelReport> models;
  std::map<std::string, double> baselines;          // majority, logistic_regression
  std::map<std::string, double> tokens_per_second;  // fp32, bf16, int8
  std::optional<KernelReport> kernel;
  std::vector<training::LogEntry> log_history;
  int num_ranks = 1;
  double seconds = 0;
  std::string machine;  // the processor's name
};

// Keys as in docs/data-formats.md.
std::string to_json(const Report& report);
// One self-contained page: tables and the loss curve as an inline picture. No script, nothing
// fetched.
std::string to_html(const Report& report);
// A table for the terminal.
std::string to_text(const Report& report);

}  // namespace deepseek_train::tuning
