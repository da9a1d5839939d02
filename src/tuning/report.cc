#include "deepseek_train/tuning/report.h"

#include <nlohmann/json.hpp>

#include "deepseek_train/core/strings.h"

namespace deepseek_train::tuning {
namespace {

// One line of the table: each cell filled up to its column's width.
std::string line_of(const std::vector<std::string>& cells) {
  static constexpr size_t kWidths[] = {24, 10, 18, 12, 9, 0};
  std::string line;
  for (size_t i = 0; i < cells.size(); ++i) {
    line += cells[i];
    if (cells[i].size() < kWidths[i]) line.append(kWidths[i] - cells[i].size(), ' ');
  }
  line += '\n';
  return line;
}

}  // namespace

std::string to_json(const Report& report) {
  nlohmann::ordered_json json;
  json["name"] = report.name;
  auto& accuracy = json["accuracy"];
  for (const auto& model : report.models) accuracy[model.key] = model.accuracy;
  for (const auto& [name, value] : report.baselines) accuracy[name] = value;
  for (const auto& model : report.models) {
    json["interval"][model.key] = {model.interval.first, model.interval.second};
    json["perplexity"][model.key] = model.perplexity;
    json["bytes"][model.key] = model.bytes;
    if (model.agreement) json["agreement_with_tuned"][model.key] = *model.agreement;
  }
  json["tokens_per_second"] = report.tokens_per_second;
  if (report.kernel)
    json["int8_kernel"] = {{"name", report.kernel->name},
                           {"products_per_forward", report.kernel->int8_products},
                           {"lm_head_in_int8", report.kernel->lm_head_in_int8}};
  json["num_test_records"] = report.num_test_records;
  json["num_ranks"] = report.num_ranks;
  json["seconds"] = report.seconds;
  json["machine"] = report.machine;
  return json.dump(2) + "\n";
}

std::string to_text(const Report& report) {
  std::string text =
      line_of({"model", "accuracy", "95 % interval", "perplexity", "MB", "same answer as tuned"});
  for (const auto& [name, value] : report.baselines) text += line_of({name, fixed(value, 3)});
  for (const auto& model : report.models)
    text +=
        line_of({model.title, fixed(model.accuracy, 3),
                 concat(fixed(model.interval.first, 3), " to ", fixed(model.interval.second, 3)),
                 fixed(model.perplexity, 2), fixed(static_cast<double>(model.bytes) * 1e-6, 1),
                 model.agreement ? concat(fixed(*model.agreement * 100, 1), " %") : ""});
  if (!report.tokens_per_second.empty()) {
    text += "prefill tokens/s, all ranks together:";
    for (const auto& [name, value] : report.tokens_per_second)
      text += concat("  ", name, " ", fixed(value, 0));
    text += '\n';
  }
  if (report.kernel)
    text += concat("INT8: ", report.kernel->name, ", ", report.kernel->int8_products,
                   " integer products a forward pass, lm_head ",
                   report.kernel->lm_head_in_int8 ? "among them" : "not among them", "\n");
  return text;
}

}  // namespace deepseek_train::tuning
