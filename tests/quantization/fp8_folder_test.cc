#include "deepseek_train/quantization/fp8_folder.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>

#include "deepseek_train/core/error.h"
#include "tests/formats/temporary_folder.h"

namespace deepseek_train::quantization {
namespace {

using formats::contains;
using formats::error_of;
using formats::SafetensorsFolder;
using formats::TensorInfo;

const TensorInfo kWeight = {
    "model.layers.0.self_attn.kv_a_proj_with_mqa.weight", DType::kBFloat16, {576, 300}};
const TensorInfo kExpert = {
    "model.layers.0.mlp.experts.3.down_proj.weight", DType::kFloat32, {130, 64}};
const TensorInfo kNorm = {"model.layers.0.input_layernorm.weight", DType::kBFloat16, {300}};
const TensorInfo kBias = {"model.layers.0.mlp.gate.e_score_correction_bias", DType::kFloat32, {8}};
const TensorInfo kGate = {"model.layers.0.mlp.gate.weight", DType::kBFloat16, {8, 300}};
const std::vector<TensorInfo> kTensors = {kWeight, kExpert, kNorm, kBias, kGate};

constexpr const char* kConfig =
    R"({"model_type": "deepseek_v3", "torch_dtype": "bfloat16", "eos_token_id": 1})";

std::vector<std::byte> random_values(const TensorInfo& tensor) {
  std::mt19937 random(static_cast<uint32_t>(tensor.name.size()));
  std::normal_distribution<float> normal(0, 0.05f);
  std::vector<std::byte> bytes(formats::size_bytes(tensor));
  const size_t width = size_bytes(tensor.dtype);
  for (size_t i = 0; i < bytes.size() / width; ++i) {
    const float value = normal(random);
    const BFloat16 half = to_bfloat16(value);
    std::memcpy(bytes.data() + i * width, width == 4 ? static_cast<const void*>(&value) : &half,
                width);
  }
  return bytes;
}

class Fp8FolderTest : public testing::Test {
 protected:
  void write_folder(
      const std::string& name, const std::vector<TensorInfo>& tensors, const std::string& config,
      const std::function<void(const TensorInfo&, std::vector<std::byte>&)>& change = {}) {
    std::vector<std::byte> bytes;
    formats::write_sharded(posix_env(), folder_.file(name), formats::plan_shards(tensors, 200'000),
                           [&](const TensorInfo& tensor) {
                             bytes = random_values(tensor);
                             if (change) change(tensor, bytes);
                             return std::span<const std::byte>(bytes);
                           });
    write_text(posix_env(), folder_.file(name) + "/config.json", config);
    write_text(posix_env(), folder_.file(name) + "/tokenizer.json", "{}");
    write_text(posix_env(), folder_.file(name) + "/notes.bin", "not copied");
  }
  std::string config_of(const std::string& name) {
    return read_text(posix_env(), folder_.file(name) + "/config.json");
  }
  void to_fp8(Fp8ScaleFormat format = Fp8ScaleFormat::kFloat32, int num_threads = 2) {
    convert_bf16_to_fp8(posix_env(), folder_.file("bf16"), folder_.file("fp8"), format,
                        {num_threads, 100'000});
  }
  void to_bf16() {
    convert_fp8_to_bf16(posix_env(), folder_.file("fp8"), folder_.file("back"), {3, 150'000});
  }

  formats::TemporaryFolder folder_;
};

float value_at(const formats::TensorView& tensor, int64_t i) {
  if (tensor.dtype == DType::kFloat32) {
    float value;
    std::memcpy(&value, tensor.bytes.data() + 4 * i, 4);
    return value;
  }
  BFloat16 value;
  std::memcpy(&value, tensor.bytes.data() + 2 * i, 2);
  return to_float(value);
}

TEST_F(Fp8FolderTest, ThereAndBack) {
  write_folder("bf16", kTensors, kConfig);
  for (const auto format : {Fp8ScaleFormat::kFloat32, Fp8ScaleFormat::kUe8m0}) {
    to_fp8(format);
    to_bf16();
    const SafetensorsFolder original(posix_env(), folder_.file("bf16"));
    const SafetensorsFolder fp8(posix_env(), folder_.file("fp8"));
    const SafetensorsFolder back(posix_env(), folder_.file("back"));
    EXPECT_EQ(fp8.tensors().size(), kTensors.size() + 2);
    EXPECT_EQ(back.tensors().size(), kTensors.size());
    EXPECT_GT(fp8.shards().size(), 1u);

    for (const auto& tensor : {kNorm, kBias, kGate})
      for (const auto* folder : {&fp8, &back})
        EXPECT_TRUE(
            std::ranges::equal(folder->get(tensor.name).bytes, original.get(tensor.name).bytes));
    for (const auto& tensor : {kWeight, kExpert}) {
      EXPECT_EQ(fp8.get(tensor.name).dtype, DType::kFloat8E4M3);
      const auto& scales = fp8.get(tensor.name + "_scale_inv");
      EXPECT_EQ(scales.shape, (std::vector<int64_t>{(tensor.shape[0] + 127) / 128,
                                                    (tensor.shape[1] + 127) / 128}));
      const auto& found = back.get(tensor.name);
      EXPECT_EQ(found.dtype, DType::kBFloat16);
      for (int64_t i = 0; i < tensor.shape[0] * tensor.shape[1]; ++i) {
        const int64_t block =
            i / tensor.shape[1] / 128 * scales.shape[1] + i % tensor.shape[1] / 128;
        const float wanted = value_at(original.get(tensor.name), i);
        // Half a step of e4m3, of its subnormals near zero, and bf16's own rounding.
        const float tolerance = std::max(std::abs(wanted) / 15, value_at(scales, block) * 0x1p-10f);
        ASSERT_NEAR(value_at(found, i), wanted, tolerance) << tensor.name << " " << i;
      }
    }
    const auto text = config_of("fp8");
    EXPECT_TRUE(contains(text, "\"quant_method\": \"fp8\"") && contains(text, "model_type"))
        << text;
    EXPECT_EQ(contains(text, "\"scale_fmt\": \"ue8m0\""), format == Fp8ScaleFormat::kUe8m0);
    EXPECT_FALSE(contains(config_of("back"), "quantization_config"));
    EXPECT_EQ(posix_env().exists(folder_.file("back/tokenizer.json")), true);
    EXPECT_EQ(posix_env().exists(folder_.file("back/notes.bin")), false);
    posix_env().remove_all(folder_.file("fp8"));
    posix_env().remove_all(folder_.file("back"));
  }
}

TEST_F(Fp8FolderTest, TheNumberOfThreadsDoesNotMatter) {
  write_folder("bf16", {{"big_proj.weight", DType::kBFloat16, {3000, 900}}}, kConfig);
  to_fp8(Fp8ScaleFormat::kFloat32, 1);
  posix_env().rename(folder_.file("fp8"), folder_.file("one"));
  to_fp8(Fp8ScaleFormat::kFloat32, 4);
  for (const auto& name : posix_env().list(folder_.file("one")))
    EXPECT_EQ(read_text(posix_env(), folder_.file("one/" + name)),
              read_text(posix_env(), folder_.file("fp8/" + name)))
        << name;
}

TEST_F(Fp8FolderTest, ScalesMayBeE8M0) {
  const TensorInfo weight = {"a_proj.weight", DType::kFloat8E4M3, {2, 200}};
  const TensorInfo scale = {"a_proj.weight_scale_inv", DType::kFloat8E8M0, {1, 2}};
  const std::string config =
      R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}})";
  write_folder("fp8", {weight, scale}, config, [](const TensorInfo& tensor, auto& bytes) {
    std::fill(bytes.begin(), bytes.end(), std::byte{0x38});  // 1.0
    if (tensor.dtype == DType::kFloat8E8M0) bytes = {std::byte{127}, std::byte{120}};
  });
  to_bf16();
  const SafetensorsFolder back(posix_env(), folder_.file("back"));
  for (int64_t i = 0; i < 400; ++i)
    EXPECT_EQ(value_at(back.get("a_proj.weight"), i), i % 200 < 128 ? 1.0f : 0x1p-7f);
}

TEST_F(Fp8FolderTest, DamagedCheckpointsAreRefusedByNameAndLeaveNothing) {
  const std::string config =
      R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}})";
  const TensorInfo weight = {"a_proj.weight", DType::kFloat8E4M3, {2, 200}};
  const TensorInfo scale = {"a_proj.weight_scale_inv", DType::kFloat32, {1, 2}};
  const auto error = [&](const std::vector<TensorInfo>& tensors, std::byte value,
                         float scale_value) {
    write_folder("fp8", tensors, config, [&](const TensorInfo& tensor, auto& bytes) {
      std::fill(bytes.begin(), bytes.end(), value);
      if (tensor.dtype == DType::kFloat32)
        for (size_t i = 0; i < bytes.size(); i += 4) std::memcpy(bytes.data() + i, &scale_value, 4);
    });
    auto text = error_of<DataCorruption>([&] { to_bf16(); });
    EXPECT_TRUE(contains(text, "model.safetensors: tensor \"a_proj.weight") &&
                contains(text, "(bytes "))
        << text;
    EXPECT_EQ(posix_env().list(folder_.path()), std::vector<std::string>{"fp8"});
    posix_env().remove_all(folder_.file("fp8"));
    return text;
  };
  const std::byte one{0x38}, nan{0x7f};
  EXPECT_TRUE(contains(error({weight}, one, 1), "has no a_proj.weight_scale_inv"));
  EXPECT_TRUE(contains(error({scale}, one, 1), "which is not there"));
  EXPECT_TRUE(contains(error({scale, {"a_proj.weight", DType::kBFloat16, {2, 200}}}, one, 1),
                       "stored as bf16"));
  EXPECT_TRUE(
      contains(error({weight, {scale.name, DType::kFloat32, {2, 1}}}, one, 1), "wanted [1, 2]"));
  EXPECT_TRUE(
      contains(error({weight, {scale.name, DType::kBFloat16, {1, 2}}}, one, 1), "stored as bf16"));
  EXPECT_TRUE(contains(error({{weight.name, DType::kFloat8E4M3, {400}}, scale}, one, 1),
                       "wanted a matrix"));
  EXPECT_TRUE(contains(error({weight, scale}, nan, 1), "holds a NaN"));
  EXPECT_TRUE(contains(error({weight, scale}, one, -1), "the scale -1"));
  EXPECT_TRUE(contains(error({weight, scale}, one, INFINITY), "the scale inf"));
}

TEST_F(Fp8FolderTest, NanWeightsAreRefusedByName) {
  write_folder("bf16", kTensors, kConfig, [](const TensorInfo& tensor, auto& bytes) {
    if (tensor.name == kWeight.name)
      bytes[2 * 300 * 570 + 1] = std::byte{0x7f}, bytes[2 * 300 * 570] = std::byte{0xc0};
  });
  const auto text = error_of<InvalidArgument>([&] { to_fp8(); });
  EXPECT_TRUE(contains(text, "kv_a_proj_with_mqa.weight\" (bytes ") &&
              contains(text, "block [4, 0]"))
      << text;
  EXPECT_EQ(posix_env().list(folder_.path()), std::vector<std::string>{"bf16"});
}

TEST_F(Fp8FolderTest, OtherFoldersAreRefused) {
  write_folder("bf16", kTensors, kConfig);
  posix_env().make_folders(folder_.file("fp8"));
  EXPECT_TRUE(contains(error_of<InvalidArgument>([&] { to_fp8(); }), "exists already"));
  const auto error = [&](const std::string& config) {
    write_text(posix_env(), folder_.file("fp8/config.json"), config);
    return error_of<Error>([&] { to_bf16(); });
  };
  EXPECT_TRUE(contains(error(kConfig), "has no quantization_config"));
  EXPECT_TRUE(contains(error("no json"), "not a JSON object"));
  EXPECT_TRUE(contains(error(R"({"quantization_config": {"quant_method": "gptq"}})"), "\"gptq\""));
  EXPECT_TRUE(contains(
      error(R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [64, 64]}})"),
      "[64,64]"));
}

TEST(IsDeepseekFp8Weight, ChoosesTheProjections) {
  const auto chosen = [](const std::string& name) {
    return is_deepseek_fp8_weight({name, DType::kBFloat16, {4, 4}});
  };
  for (const auto* name :
       {"self_attn.q_a_proj", "self_attn.q_b_proj", "self_attn.kv_a_proj_with_mqa",
        "self_attn.kv_b_proj", "self_attn.o_proj", "mlp.experts.7.gate_proj",
        "mlp.shared_experts.up_proj", "mlp.down_proj"})
    EXPECT_TRUE(chosen(concat("model.layers.3.", name, ".weight"))) << name;
  for (const auto* name :
       {"lm_head.weight", "model.embed_tokens.weight", "model.layers.3.mlp.gate.weight",
        "model.layers.61.eh_proj.weight", "model.layers.3.input_layernorm.weight",
        "model.layers.3.self_attn.q_proj.bias"})
    EXPECT_FALSE(chosen(name)) << name;
}

}  // namespace
}  // namespace deepseek_train::quantization
