#include <algorithm>

#include "deepseek_train/core/strings.h"
#include "deepseek_train/tuning/report.h"

namespace deepseek_train::tuning {
namespace {

constexpr std::string_view kStyle = R"(
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; color: #1d2733; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .35rem .9rem; border-bottom: 1px solid #d5dbe3; text-align: right; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
svg { background: #f7f9fb; border: 1px solid #d5dbe3; }
)";

std::string escaped(std::string_view text) {
  std::string result;
  for (char c : text) {
    switch (c) {
      case '<': result += "&lt;"; break;
      case '>': result += "&gt;"; break;
      case '&': result += "&amp;"; break;
      case '"': result += "&quot;"; break;
      default: result += c;
    }
  }
  return result;
}

std::string row(const std::vector<std::string>& cells, std::string_view tag = "td") {
  std::string html = "<tr>";
  for (const auto& cell : cells) html += concat("<", tag, ">", cell, "</", tag, ">");
  return html + "</tr>\n";
}

std::string model_table(const Report& report) {
  std::string html =
      "<table>\n" +
      row({"model", "accuracy", "95 % interval", "perplexity", "MB", "same answer as tuned"}, "th");
  for (const auto& [name, value] : report.baselines)
    html += row({escaped(name), fixed(value, 3), "", "", "", ""});
  for (const auto& model : report.models)
    html += row({escaped(model.title), fixed(model.accuracy, 3),
                 concat(fixed(model.interval.first, 3), " – ", fixed(model.interval.second, 3)),
                 fixed(model.perplexity, 2), fixed(static_cast<double>(model.bytes) * 1e-6, 1),
                 model.agreement ? fixed(*model.agreement * 100, 1) + " %" : ""});
  return html + "</table>\n";
}

std::string speed_table(const Report& report) {
  auto fp32 = report.tokens_per_second.find("fp32");
  if (fp32 == report.tokens_per_second.end()) return "";
  std::string html = "<h2>Speed of a forward pass</h2>\n<table>\n" +
                     row({"weights", "tokens/s", "times fp32"}, "th");
  for (const auto& [name, value] : report.tokens_per_second)
    html += row({escaped(name), fixed(value, 0), fixed(value / fp32->second, 2)});
  html += "</table>\n";
  if (report.kernel)
    html += concat("<p>INT8 kernel: ", escaped(report.kernel->name), "; ",
                   report.kernel->int8_products, " integer products a forward pass, lm_head ",
                   report.kernel->lm_head_in_int8 ? "among them" : "not among them", ".</p>\n");
  return html;
}

// The loss over the steps as one polyline, with its axes' ends named.
std::string loss_curve(const std::vector<training::LogEntry>& history) {
  if (history.size() < 2) return "";
  constexpr double kWidth = 800, kHeight = 280, kMargin = 45;
  double highest = 0;
  for (const auto& entry : history) highest = std::max(highest, entry.loss);
  const double first = static_cast<double>(history.front().step),
               last = static_cast<double>(history.back().step);
  std::string points;
  for (const auto& entry : history) {
    const double x = kMargin + (static_cast<double>(entry.step) - first) / (last - first) *
                                   (kWidth - 2 * kMargin);
    const double y = kHeight - kMargin - entry.loss / highest * (kHeight - 2 * kMargin);
    points += concat(fixed(x, 1), ",", fixed(y, 1), " ");
  }
  auto label = [](double x, double y, const std::string& text) {
    return concat("<text x=\"", fixed(x, 0), "\" y=\"", fixed(y, 0), "\" font-size=\"13\">", text,
                  "</text>\n");
  };
  return concat(
      "<h2>Training loss</h2>\n<svg viewBox=\"0 0 800 280\" width=\"800\" height=\"280\" "
      "role=\"img\" ",
      "aria-label=\"training loss over steps\">\n", label(6, kMargin, fixed(highest, 2)),
      label(6, kHeight - kMargin, "0"),
      label(kMargin, kHeight - 15, concat("step ", history.front().step)),
      label(kWidth - 100, kHeight - 15, concat("step ", history.back().step)),
      "<polyline fill=\"none\" stroke=\"#1f6feb\" stroke-width=\"2\" points=\"", points,
      "\"/>\n</svg>\n");
}

}  // namespace

std::string to_html(const Report& report) {
  return concat("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>",
                escaped(report.name), "</title>\n<style>", kStyle,
                "</style>\n</head>\n<body>\n<h1>", escaped(report.name), "</h1>\n<p>",
                report.num_test_records,
                " held-out records; greedy generation to the end of text, exact match. ",
                report.num_ranks, " ranks, ", fixed(report.seconds, 0), " seconds, ",
                escaped(report.machine), ".</p>\n", model_table(report), speed_table(report),
                loss_curve(report.log_history), "</body>\n</html>\n");
}

}  // namespace deepseek_train::tuning
