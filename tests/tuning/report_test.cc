#include "deepseek_train/tuning/report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace deepseek_train::tuning {
namespace {

Report sample_report() {
  Report report;
  report.name = "a <b> & c";
  report.num_test_records = 600;
  report.models = {{"base", "base", 0.1, {0.08, 0.13}, 20.5, 1000, {}},
                   {"int8_qat", "INT8 with QAT", 0.8, {0.77, 0.83}, 9.25, 500, 0.985}};
  report.baselines = {{"majority", 0.083}, {"logistic_regression", 0.76}};
  report.tokens_per_second = {{"fp32", 100}, {"bf16", 200}, {"int8", 350}};
  report.kernel = KernelReport{"int8 w8a8", 210, false};
  for (int64_t step = 1; step <= 5; ++step)
    report.log_history.push_back({step, 5.0 / static_cast<double>(step), 0, 0, 0});
  return report;
}

TEST(ReportTest, JsonHasTheFixedKeys) {
  auto json = nlohmann::json::parse(to_json(sample_report()));
  EXPECT_EQ(json["accuracy"]["base"], 0.1);
  EXPECT_EQ(json["accuracy"]["logistic_regression"], 0.76);
  EXPECT_EQ(json["interval"]["int8_qat"], (std::vector<double>{0.77, 0.83}));
  EXPECT_EQ(json["perplexity"]["int8_qat"], 9.25);
  EXPECT_EQ(json["bytes"]["int8_qat"], 500);
  EXPECT_EQ(json["tokens_per_second"]["int8"], 350);
  EXPECT_EQ(json["int8_kernel"]["products_per_forward"], 210);
}

TEST(ReportTest, HtmlStandsAloneAndEscapes) {
  auto html = to_html(sample_report());
  EXPECT_NE(html.find("a &lt;b&gt; &amp; c"), std::string::npos);
  EXPECT_EQ(html.find("a <b>"), std::string::npos);
  for (const char* fetched : {"http", "<script", "src=", "@import"})
    EXPECT_EQ(html.find(fetched), std::string::npos) << fetched;
  EXPECT_NE(html.find("<polyline"), std::string::npos);
  EXPECT_NE(html.find("98.5 %"), std::string::npos);
  EXPECT_NE(html.find("3.50"), std::string::npos);  // INT8 over fp32
}

}  // namespace
}  // namespace deepseek_train::tuning
