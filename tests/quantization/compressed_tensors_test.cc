#include "deepseek_train/quantization/compressed_tensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"

namespace deepseek_train::quantization {
namespace {

using Json = nlohmann::json;

// What compressed-tensors 0.20.0 itself wrote for a W8A8 model.
const Json kWrittenByCompressedTensors = Json::parse(R"({
  "config_groups": {"group_0": {"format": "int-quantized", "targets": ["Linear"], "output_activations": null,
    "input_activations": {"dynamic": true, "group_size": null, "num_bits": 8, "strategy": "token", "symmetric": true,
      "type": "int"},
    "weights": {"dynamic": false, "group_size": null, "num_bits": 8, "strategy": "channel", "symmetric": true,
      "type": "int"}}},
  "format": "int-quantized", "global_compression_ratio": null, "ignore": ["lm_head"], "kv_cache_scheme": null,
  "moe_sparsity_config": null, "quant_method": "compressed-tensors", "quantization_status": "compressed",
  "sparsity_config": {}, "transform_config": {}, "version": "0.20.0"})");

CompressedTensorsConfig parse(const Json& json) {
  return parse_compressed_tensors_config(json.dump());
}

TEST(CompressedTensorsTest, WritesWhatTheLibraryItselfWrites) {
  const std::string text = to_json({.scheme = w8a8(), .ignore = {"lm_head"}});
  EXPECT_EQ(Json::parse(text), kWrittenByCompressedTensors) << text;
}

TEST(CompressedTensorsTest, ReadsBackWhatItWrites) {
  const CompressedTensorsConfig config{.scheme = w8a8(), .ignore = {"lm_head", "re:.*gate$"}};
  const CompressedTensorsConfig read = parse_compressed_tensors_config(to_json(config));
  EXPECT_EQ(read.scheme, config.scheme);
  EXPECT_EQ(read.ignore, config.ignore);
}

TEST(CompressedTensorsTest, RefusesToWriteAnotherScheme) {
  QuantizationScheme scheme = w8a8();
  scheme.weights.num_bits = 4;
  EXPECT_THROW(to_json({.scheme = scheme}), InvalidArgument);
  scheme = w8a8();
  scheme.input_activations.reset();
  EXPECT_THROW(to_json({.scheme = scheme}), InvalidArgument);
}

TEST(CompressedTensorsTest, OlderFilesWithoutOptionalKeysLoad) {
  Json json = kWrittenByCompressedTensors;
  for (const char* key :
       {"format", "ignore", "kv_cache_scheme", "moe_sparsity_config", "sparsity_config",
        "transform_config", "version", "global_compression_ratio"}) {
    json.erase(key);
  }
  json["config_groups"]["group_0"].erase("format");
  json["config_groups"]["group_0"]["weights"]["observer"] = "minmax";
  EXPECT_EQ(parse(json).scheme, w8a8());
  EXPECT_TRUE(parse(json).ignore.empty());
}

// Every deviation is refused by an error that names its key.
TEST(CompressedTensorsTest, WhatCannotBeRunIsRefusedByName) {
  const std::pair<const char*, Json> changes[] = {
      {"/quant_method", "fp8"},
      {"/quantization_status", "frozen"},
      {"/quantization_status", nullptr},
      {"/format", "pack-quantized"},
      {"/kv_cache_scheme", {{"num_bits", 8}}},
      {"/sparsity_config", {{"format", "sparse-24-bitmask"}}},
      {"/transform_config", {{"config_groups", 1}}},
      {"/config_groups/group_0/format", "float-quantized"},
      {"/config_groups/group_0/targets", {"re:.*mlp.*"}},
      {"/config_groups/group_0/weights", nullptr},
      {"/config_groups/group_0/input_activations", nullptr},
      {"/config_groups/group_0/output_activations", {{"num_bits", 8}}},
      {"/config_groups/group_0/weights/num_bits", 4},
      {"/config_groups/group_0/weights/type", "float"},
      {"/config_groups/group_0/weights/strategy", "group"},
      {"/config_groups/group_0/weights/symmetric", false},
      {"/config_groups/group_0/weights/group_size", 128},
      {"/config_groups/group_0/weights/dynamic", true},
      {"/config_groups/group_0/weights/actorder", "weight"},
      {"/config_groups/group_0/input_activations/strategy", "tensor"},
      {"/config_groups/group_0/input_activations/dynamic", false},
  };
  for (const auto& [place, value] : changes) {
    Json json = kWrittenByCompressedTensors;
    const Json::json_pointer pointer{std::string(place)};
    json[pointer] = value;
    try {
      parse(json);
      ADD_FAILURE() << place << " = " << value << " was accepted";
    } catch (const InvalidArgument& error) {
      EXPECT_NE(std::string(error.what()).find(pointer.back()), std::string::npos) << error.what();
    }
  }
}

TEST(CompressedTensorsTest, SeveralGroupsAreRefused) {
  Json json = kWrittenByCompressedTensors;
  json["config_groups"]["group_1"] = json["config_groups"]["group_0"];
  EXPECT_THROW(parse(json), InvalidArgument);
  json["config_groups"] = Json::object();
  EXPECT_THROW(parse(json), InvalidArgument);
}

TEST(CompressedTensorsTest, DamagedTextIsCorruption) {
  const std::string whole = kWrittenByCompressedTensors.dump();
  for (size_t length = 0; length < whole.size(); length += 7) {
    EXPECT_THROW(parse_compressed_tensors_config(whole.substr(0, length)), DataCorruption)
        << length;
  }
  EXPECT_THROW(parse_compressed_tensors_config("[]"), DataCorruption);
  EXPECT_THROW(parse_compressed_tensors_config("\"text\""), DataCorruption);
  EXPECT_THROW(parse_compressed_tensors_config("{\"a\": \"\xff\xfe\"}"), DataCorruption);
  EXPECT_THROW(parse_compressed_tensors_config(std::string(1000000, '[')), DataCorruption);
  for (const char* place :
       {"/config_groups", "/config_groups/group_0", "/config_groups/group_0/weights", "/ignore"}) {
    Json json = kWrittenByCompressedTensors;
    json[Json::json_pointer(place)] = 3;
    EXPECT_THROW(parse(json), DataCorruption) << place;
  }
  Json json = kWrittenByCompressedTensors;
  json["ignore"] = {1, 2};
  EXPECT_THROW(parse(json), DataCorruption);
}

TEST(CompressedTensorsTest, IgnoreMatchesNamesAndPatterns) {
  const CompressedTensorsConfig config{.scheme = w8a8(),
                                       .ignore = {"lm_head", "re:model\\.layers\\.0\\..*"}};
  EXPECT_TRUE(is_ignored(config, "lm_head"));
  EXPECT_FALSE(is_ignored(config, "lm_head2"));
  EXPECT_TRUE(is_ignored(config, "model.layers.0.mlp.up_proj"));
  EXPECT_FALSE(is_ignored(config, "model.layers.10.mlp.up_proj"));
  EXPECT_FALSE(is_ignored(config, "prefix.model.layers.0.mlp.up_proj"));  // as Python's re.match
  EXPECT_THROW(is_ignored({.scheme = w8a8(), .ignore = {"re:("}}, "x"), InvalidArgument);
}

TEST(CompressedTensorsTest, NamesAndShapesOfALinear) {
  const auto tensors = compressed_linear_tensors("model.layers.0.self_attn.k_proj", 128, 256);
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].name, "model.layers.0.self_attn.k_proj.weight");
  EXPECT_EQ(tensors[0].dtype, DType::kInt8);
  EXPECT_EQ(tensors[0].shape, (std::vector<int64_t>{128, 256}));
  EXPECT_EQ(tensors[1].name, "model.layers.0.self_attn.k_proj.weight_scale");
  EXPECT_EQ(tensors[1].dtype, DType::kFloat32);
  EXPECT_EQ(tensors[1].shape, (std::vector<int64_t>{128, 1}));
}

TEST(CompressedTensorsTest, QuantizesAWeightByChannel) {
  const std::vector<float> weight = {127.5f, -1.5f, 0.5f, 0, 0, 0};
  const QuantizedWeight quantized = quantize_weight(weight, 2, 3);
  EXPECT_EQ(quantized.values, (std::vector<int8_t>{127, -2, 0, 0, 0, 0}));
  EXPECT_EQ(quantized.scales, (std::vector<float>{1.0f, std::numeric_limits<float>::epsilon()}));
}

TEST(CompressedTensorsTest, BadWeightsAreRefused) {
  const std::vector<float> weight(6, 1.0f);
  EXPECT_THROW(quantize_weight(weight, 2, 2), InvalidArgument);
  EXPECT_THROW(quantize_weight(weight, -2, -3), InvalidArgument);
  EXPECT_THROW(quantize_weight(weight, int64_t{1} << 62, 4), InvalidArgument);
  EXPECT_THROW(quantize_weight({}, 0, 0), InvalidArgument);
  for (float bad : {NAN, INFINITY, -INFINITY}) {
    std::vector<float> spoilt = weight;
    spoilt[4] = bad;
    try {
      quantize_weight(spoilt, 2, 3);
      ADD_FAILURE() << bad << " was accepted";
    } catch (const InvalidArgument& error) {
      EXPECT_NE(std::string(error.what()).find("channel 1"), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace deepseek_train::quantization
