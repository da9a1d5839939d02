#include "deepseek_train/tuning/recipe.h"

#include <gtest/gtest.h>

#include "deepseek_train/core/error.h"

namespace deepseek_train::tuning {
namespace {

constexpr std::string_view kValid = R"(name: trial
model_name_or_path: model.gguf
data:
  train: train.jsonl
  prompt: "Q: {q}"
  answer: " {a}"
training:
  max_steps: 10
  learning_rate: 2.0e-4
)";

std::string with(std::string_view from, std::string_view to) {
  std::string text(kValid);
  text.replace(text.find(from), from.size(), to);
  return text;
}

void expect_error(const std::string& yaml, std::initializer_list<std::string_view> parts) {
  try {
    parse_recipe(yaml, "trial.yaml");
    ADD_FAILURE() << "no error for:\n" << yaml;
  } catch (const InvalidArgument& error) {
    for (auto part : parts)
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(RecipeTest, ReadsWhatMixturesOfExpertsNeed) {
  auto plain = parse_recipe(kValid, "trial.yaml").training;
  EXPECT_FALSE(plain.router_aux_loss_coef.has_value());
  EXPECT_EQ(plain.bias_update_speed, 0);
  auto set = parse_recipe(with("learning_rate: 2.0e-4",
                               "router_aux_loss_coef: 0\n"
                               "  bias_update_speed: 1.0e-3\n  mtp_loss_weight: 0.3"),
                          "trial.yaml")
                 .training;
  EXPECT_EQ(set.router_aux_loss_coef, 0.0);
  EXPECT_EQ(set.bias_update_speed, 0.001);
  EXPECT_EQ(set.mtp_loss_weight, 0.3);
  expect_error(with("learning_rate: 2.0e-4", "router_aux_loss_coef: -1"),
               {"trial.yaml:9", "router_aux_loss_coef", "at least 0"});
}

TEST(RecipeTest, ReadsValuesAndDefaults) {
  auto recipe = parse_recipe(kValid, "trial.yaml");
  EXPECT_EQ(recipe.name, "trial");
  EXPECT_EQ(recipe.run_folder(), "runs/trial");
  EXPECT_EQ(recipe.data.prompt, "Q: {q}");
  EXPECT_EQ(recipe.training.max_steps, 10);
  EXPECT_DOUBLE_EQ(recipe.training.learning_rate, 2e-4);
  EXPECT_TRUE(recipe.quantization.scheme.empty());
  EXPECT_FALSE(recipe.communication.insecure_network);
}

TEST(RecipeTest, CredentialsNeedTheirJob) {
  const std::string both =
      "communication:\n  credentials: /run/credentials\n  job: spiffe://bank.example/job-42\n";
  const auto recipe = parse_recipe(std::string(kValid) + both, "trial.yaml");
  EXPECT_EQ(recipe.communication.credentials, "/run/credentials");
  EXPECT_EQ(recipe.communication.job, "spiffe://bank.example/job-42");
  expect_error(std::string(kValid) + "communication:\n  credentials: /run/credentials\n",
               {"communication.credentials", "communication.job", "or neither"});
}

TEST(RecipeTest, ATypoNamesLineAndNearestKey) {
  expect_error(with("learning_rate", "learnig_rate"),
               {"trial.yaml:9", "learnig_rate", "did you mean training.learning_rate"});
  expect_error(with("data:\n", "dta:\n"), {"trial.yaml", "data"});
}

TEST(RecipeTest, ASectionLoraTrainsAnAdapter) {
  EXPECT_FALSE(parse_recipe(kValid, "trial.yaml").lora);
  auto recipe = parse_recipe(std::string(kValid) +
                                 "lora:\n  r: 4\n  lora_alpha: 8\n  target_modules: [q_proj, "
                                 "v_proj]\n  use_dora: true\n  base: nf4\n",
                             "trial.yaml");
  ASSERT_TRUE(recipe.lora);
  EXPECT_EQ(recipe.lora->config.r, 4);
  EXPECT_EQ(recipe.lora->config.target_modules, (std::vector<std::string>{"q_proj", "v_proj"}));
  EXPECT_TRUE(recipe.lora->config.use_dora);
  EXPECT_EQ(recipe.lora->base, "nf4");
  expect_error(std::string(kValid) + "lora:\n  r: 0\n", {"trial.yaml:11", "lora.r"});
  expect_error(std::string(kValid) + "lora:\n  base: fp3\n", {"trial.yaml:11", "nf4-double"});
  expect_error(
      std::string(kValid) + "lora:\n  r: 2\nquantization:\n  scheme: w8a8\n  qat_steps: 1\n",
      {"trial.yaml", "qat_steps"});
}

TEST(RecipeTest, WrongKindsAndRanges) {
  expect_error(with("10", "ten"), {"trial.yaml:8", "max_steps", "ten", "whole number"});
  expect_error(with("10", "0"), {"trial.yaml:8", "at least 1"});
  expect_error(with("2.0e-4", "-1"), {"trial.yaml:9", "above zero"});
  expect_error(with("2.0e-4", ".nan"), {"trial.yaml:9", "above zero"});
  expect_error(std::string(kValid) + "quantization:\n  scheme: int3\n",
               {"trial.yaml:11", "int3", "w8a8"});
  expect_error(std::string(kValid) + "quantization: 5\n", {"trial.yaml:10", "mapping"});
  expect_error(with("name: trial", "name: a/b"), {"a/b", "slashes"});
}

TEST(RecipeTest, MissingKeysAndBrokenYaml) {
  expect_error(with("  train: train.jsonl\n", ""), {"data.train", "missing"});
  expect_error(with("name: trial\n", ""), {"name", "missing"});
  expect_error("name: [", {"trial.yaml:", "not valid YAML"});
  expect_error("just text", {"mapping"});
}

}  // namespace
}  // namespace deepseek_train::tuning
