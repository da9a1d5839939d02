#include "deepseek_train/models/model_config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"

namespace deepseek_train::models {
namespace {

nlohmann::json valid_json() {
  return {{"model_type", "llama"},         {"vocab_size", 100},      {"hidden_size", 64},
          {"intermediate_size", 96},       {"num_hidden_layers", 2}, {"num_attention_heads", 4},
          {"num_key_value_heads", 2},      {"rms_norm_eps", 1e-5},   {"rope_theta", 10000.0},
          {"max_position_embeddings", 128}};
}

std::string error_of(const nlohmann::json& json) {
  try {
    model_config_from_json(json.dump());
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(ModelConfigTest, RoundTrip) {
  auto config = model_config_from_json(valid_json().dump());
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(model_config_from_json(to_config_json(config, "bfloat16")), config);
}

TEST(ModelConfigTest, BothGenerationsOfRopeKeys) {
  auto json = valid_json();
  json.erase("rope_theta");
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 5e5}};
  EXPECT_EQ(model_config_from_json(json.dump()).rope.rope_theta, 5e5);
}

TEST(ModelConfigTest, RefusesByName) {
  auto json = valid_json();
  json["model_type"] = "mamba";
  EXPECT_NE(error_of(json).find("mamba"), std::string::npos);
  json = valid_json();
  json["rope_scaling"] = {{"rope_type", "longrope"}};
  EXPECT_NE(error_of(json).find("longrope"), std::string::npos);
  json = valid_json();
  json["hidden_act"] = "gelu";
  EXPECT_NE(error_of(json).find("gelu"), std::string::npos);
}

TEST(ModelConfigTest, NamesMissingAndImpossibleValues) {
  for (const char* key :
       {"vocab_size", "hidden_size", "num_hidden_layers", "rms_norm_eps", "rope_theta"}) {
    auto json = valid_json();
    json.erase(key);
    EXPECT_NE(error_of(json).find(key), std::string::npos) << key;
  }
  auto json = valid_json();
  json["num_key_value_heads"] = 3;
  EXPECT_NE(error_of(json).find("multiple"), std::string::npos);
  json["num_key_value_heads"] = 0;
  EXPECT_NE(error_of(json).find("num_key_value_heads"), std::string::npos);
  json = valid_json();
  json["vocab_size"] = "many";
  EXPECT_NE(error_of(json).find("vocab_size"), std::string::npos);
  EXPECT_THROW(model_config_from_json("{"), DataCorruption);
}

}  // namespace
}  // namespace deepseek_train::models
