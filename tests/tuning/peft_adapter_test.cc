#include "deepseek_train/tuning/peft_adapter.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"
#include "deepseek_train/models/transformer.h"
#include "tests/formats/temporary_folder.h"
#include "tests/support/tiny_llama.h"

namespace deepseek_train::tuning {
namespace {

std::shared_ptr<models::Transformer> tiny_model() {
  auto model = std::make_shared<models::Transformer>(test_support::tiny_llama_config(17));
  model->initialize(1);
  return model;
}

torch::Tensor logits(models::Transformer& model) {
  torch::NoGradGuard no_grad;
  return model.logits(model.hidden_states(torch::arange(12).view({2, 6})));
}

class PeftAdapterTest : public testing::Test {
 protected:
  PeftAdapterTest() {
    adapters_.add("law", {.r = 3, .lora_alpha = 5, .target_modules = {"q_proj", "up_proj"}});
    torch::NoGradGuard no_grad;
    for (auto& [name, tensor] : adapters_.tensors("law")) tensor.normal_(0, 0.3);
    save_adapter(posix_env(), folder_, adapters_, "law");
  }

  // The folder's adapter with its config changed, loaded into a fresh model: the error's text.
  std::string error_with(const std::string& key, const nlohmann::json& value) {
    auto json = nlohmann::json::parse(read_text(posix_env(), folder_ + "/adapter_config.json"));
    json[key] = value;
    write_text(posix_env(), folder_ + "/adapter_config.json", json.dump());
    return error_of_loading();
  }

  std::string error_of_loading() {
    auto model = tiny_model();
    const auto before = logits(*model);
    LoraAdapters adapters(model);
    try {
      load_adapter(posix_env(), folder_, adapters, "again");
    } catch (const Error& error) {
      EXPECT_TRUE(adapters.names().empty());
      EXPECT_TRUE(torch::equal(logits(*model), before));
      return error.what();
    }
    return "no error";
  }

  void rewrite(const std::vector<formats::NamedTensor>& tensors) {
    formats::write_tensors(posix_env(), folder_ + "/adapter_model.safetensors", tensors);
  }

  std::vector<formats::NamedTensor> stored() {
    formats::SafetensorsFile file(posix_env(), folder_ + "/adapter_model.safetensors");
    std::vector<formats::NamedTensor> tensors;
    for (const auto& view : file.tensors())
      tensors.push_back({view.name, formats::as_tensor(view).clone()});
    return tensors;
  }

  formats::TemporaryFolder temporary_;
  std::string folder_ = temporary_.file("adapter");
  std::shared_ptr<models::Transformer> model_ = tiny_model();
  LoraAdapters adapters_{model_};
};

TEST_F(PeftAdapterTest, WhatIsSavedIsLoadedBitByBit) {
  auto other = tiny_model();
  LoraAdapters adapters(other);
  load_adapter(posix_env(), folder_, adapters, "again");
  EXPECT_EQ(adapters.active(), "again");
  EXPECT_TRUE(torch::equal(logits(*other), logits(*model_)));
  EXPECT_EQ(adapters.config("again").target_modules,
            (std::vector<std::string>{"q_proj", "up_proj"}));
  EXPECT_EQ(adapters.config("again").lora_alpha, 5);
}

TEST_F(PeftAdapterTest, NamesOnDiskArePefts) {
  auto tensors = stored();
  ASSERT_EQ(tensors.size(), 8u);
  EXPECT_EQ(tensors[0].name, "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
  EXPECT_EQ(tensors[1].name, "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight");
}

TEST_F(PeftAdapterTest, WhatChangesTheFunctionIsRefusedByName) {
  for (const auto& [key, value] : std::vector<std::pair<std::string, nlohmann::json>>{
           {"peft_type", "IA3"},
           {"bias", "all"},
           {"fan_in_fan_out", true},
           {"target_parameters", {"experts.gate_up_proj"}},
           {"layers_to_transform", {1}},
           {"init_lora_weights", "pissa"},
           {"use_something_new", true}}) {
    save_adapter(posix_env(), folder_, adapters_, "law");
    EXPECT_NE(error_with(key, value).find(key), std::string::npos) << key;
  }
}

TEST_F(PeftAdapterTest, AConfigThatDoesNotFitIsRefused) {
  EXPECT_NE(error_with("r", 4).find("another rank"), std::string::npos);
  EXPECT_NE(error_with("r", "eight").find("another kind"), std::string::npos);
  save_adapter(posix_env(), folder_, adapters_, "law");
  EXPECT_NE(error_with("target_modules", {"q_proj", "w1"}).find("w1"), std::string::npos);
  EXPECT_NE(error_with("target_modules", {"q_proj"}).find("no place for"), std::string::npos);
  EXPECT_NE(error_with("target_modules", "all-linear").find("has no tensor"), std::string::npos);
}

TEST_F(PeftAdapterTest, DamagedTensorsAreRefusedByName) {
  auto tensors = stored();
  auto name = tensors.back().name;
  auto whole = tensors.back().tensor.clone();
  tensors.back().tensor = torch::full_like(whole, std::numeric_limits<float>::quiet_NaN());
  rewrite(tensors);
  EXPECT_NE(error_of_loading().find(name + " holds NaN"), std::string::npos);
  tensors.back().tensor = whole.narrow(0, 0, 1);
  rewrite(tensors);
  EXPECT_NE(error_of_loading().find(name + " has shape"), std::string::npos);
  tensors.pop_back();
  rewrite(tensors);
  EXPECT_NE(error_of_loading().find("has no tensor " + name), std::string::npos);
}

TEST_F(PeftAdapterTest, PicklesAreRefusedAndMissingFilesNamed) {
  posix_env().remove_all(folder_ + "/adapter_model.safetensors");
  EXPECT_NE(error_of_loading().find("no adapter_model.safetensors"), std::string::npos);
  write_text(posix_env(), folder_ + "/adapter_model.bin", "x");
  EXPECT_NE(error_of_loading().find("pickle"), std::string::npos);
}

TEST_F(PeftAdapterTest, ARegularExpressionAndDefaultsKeepTheirPeftForm) {
  auto json = nlohmann::json::parse(
      to_json({.target_modules = {"re:.*_proj"}, .modules_to_save = {"norm"}, .use_dora = true}));
  EXPECT_EQ(json["target_modules"], ".*_proj");
  EXPECT_EQ(json["modules_to_save"], nlohmann::json({"norm"}));
  EXPECT_EQ(json["use_dora"], true);
  auto config = parse_lora_config(json.dump(), "here");
  EXPECT_EQ(config.target_modules, std::vector<std::string>{"re:.*_proj"});
  EXPECT_TRUE(config.use_dora);
  EXPECT_THROW(to_json({.target_modules = {"re:a", "b"}}), InvalidArgument);
  EXPECT_THROW(parse_lora_config("[", "here"), DataCorruption);
}

}  // namespace
}  // namespace deepseek_train::tuning
