// Adapters against the formulas of their papers, written out naively in float64.
#include "deepseek_train/tuning/lora.h"

#include <gtest/gtest.h>

#include <cmath>

#include "deepseek_train/core/error.h"
#include "deepseek_train/models/transformer.h"
#include "deepseek_train/ops/linear.h"
#include "deepseek_train/quantization/torch/frozen_linear.h"
#include "deepseek_train/training/adamw.h"
#include "tests/support/tiny_llama.h"

namespace deepseek_train::tuning {
namespace {

constexpr int64_t kIn = 7, kOut = 5, kRank = 3;

// One linear layer named "proj" in a module, with a bias.
struct OneLayer {
  std::shared_ptr<torch::nn::Module> root = std::make_shared<torch::nn::Module>();
  std::shared_ptr<ops::Linear> linear;
  OneLayer() {
    torch::manual_seed(5);
    linear =
        root->register_module("proj", std::make_shared<ops::Linear>(ops::LinearOptions{
                                          .in_features = kIn, .out_features = kOut, .bias = true}));
    linear->reset_parameters(0.5);
    torch::NoGradGuard no_grad;
    linear->bias.normal_();
  }
};

LoraConfig config_of(bool rslora, bool dora) {
  return {.r = kRank,
          .lora_alpha = 4,
          .target_modules = {"proj"},
          .use_rslora = rslora,
          .use_dora = dora};
}

// Values that make every part matter.
void randomize(const LoraAdapters& adapters, const std::string& name) {
  torch::NoGradGuard no_grad;
  for (auto& [key, tensor] : adapters.tensors(name)) {
    if (key.ends_with("magnitude_vector")) {
      tensor.mul_(torch::rand_like(tensor) + 0.5);
    } else {
      tensor.normal_(0, 0.4);
    }
  }
}

struct Reference {
  torch::Tensor output;
  torch::Tensor input_gradient;
  std::map<std::string, torch::Tensor> gradients;
};

// y = x W'^T + bias with W' = W + s B A, or m W' / |W'| with the norm constant; and the gradients
// of sum(y * weights).
Reference naive(OneLayer& layer, const LoraAdapters& adapters, const torch::Tensor& input,
                const torch::Tensor& weights, double scale, bool dora) {
  Reference reference;
  auto x = input.detach().to(at::kDouble).set_requires_grad(true);
  std::map<std::string, torch::Tensor> own;
  for (const auto& [key, tensor] : adapters.tensors(adapters.active()))
    own[key] = tensor.detach().to(at::kDouble).set_requires_grad(true);
  auto matrix = layer.linear->weight.detach().to(at::kDouble) +
                scale * own["proj.lora_B.weight"].matmul(own["proj.lora_A.weight"]);
  if (dora)
    matrix = own["proj.lora_magnitude_vector"].unsqueeze(1) * matrix /
             matrix.detach().norm(2, 1, /*keepdim=*/true);
  reference.output = x.matmul(matrix.t()) + layer.linear->bias.detach().to(at::kDouble);
  (reference.output * weights.to(at::kDouble)).sum().backward();
  reference.input_gradient = x.grad();
  for (const auto& [key, tensor] : own) reference.gradients[key] = tensor.grad();
  return reference;
}

void expect_near(const torch::Tensor& found, const torch::Tensor& wanted, double tolerance) {
  const double largest = wanted.abs().max().item<double>();
  EXPECT_LE((found.to(at::kDouble) - wanted).abs().max().item<double>(), tolerance * largest);
}

struct Case {
  bool rslora, dora;
  at::ScalarType dtype;
  double tolerance;
};

class LoraFormulaTest : public testing::TestWithParam<Case> {};

TEST_P(LoraFormulaTest, OutputAndEveryGradientEqualTheNaiveFormula) {
  const auto [rslora, dora, dtype, tolerance] = GetParam();
  OneLayer layer;
  LoraAdapters adapters(layer.root);
  adapters.add("default", config_of(rslora, dora));
  randomize(adapters, "default");
  const double scale = rslora ? 4 / std::sqrt(3.0) : 4.0 / 3;
  auto input = torch::randn({2, 6, kIn}).to(dtype).set_requires_grad(true);
  auto weights = torch::randn({2, 6, kOut}).to(dtype);
  auto output = layer.linear->forward(input);
  EXPECT_EQ(output.scalar_type(), dtype);
  (output * weights).sum().backward();
  auto wanted = naive(layer, adapters, input, weights, scale, dora);
  expect_near(output, wanted.output, tolerance);
  expect_near(input.grad(), wanted.input_gradient, tolerance);
  for (const auto& [key, tensor] : adapters.tensors("default")) {
    SCOPED_TRACE(key);
    EXPECT_EQ(tensor.grad().scalar_type(), at::kFloat);
    expect_near(tensor.grad(), wanted.gradients[key], tolerance);
  }
  EXPECT_FALSE(layer.linear->weight.grad().defined());
  expect_near(layer.linear->dense_weight(at::kFloat).matmul(torch::eye(kIn)),
              naive(layer, adapters, torch::eye(kIn), torch::ones({kIn, kOut}), scale, dora)
                  .output.sub(layer.linear->bias)
                  .t(),
              1e-5);
}

INSTANTIATE_TEST_SUITE_P(All, LoraFormulaTest,
                         testing::Values(Case{false, false, at::kFloat, 1e-5},
                                         Case{true, false, at::kFloat, 1e-5},
                                         Case{false, true, at::kFloat, 1e-5},
                                         Case{true, true, at::kFloat, 1e-5},
                                         Case{false, false, at::kBFloat16, 3e-2},
                                         Case{false, true, at::kBFloat16, 3e-2}));

TEST(LoraTest, ANewAdapterChangesNothingAndFreezesTheBase) {
  for (bool dora : {false, true}) {
    OneLayer layer;
    auto input = torch::randn({4, kIn});
    auto before = layer.linear->forward(input).detach();
    LoraAdapters adapters(layer.root);
    adapters.add("default", config_of(false, dora));
    EXPECT_TRUE(torch::allclose(layer.linear->forward(input), before, 1e-5, 1e-6));
    EXPECT_FALSE(layer.linear->weight.requires_grad());
    EXPECT_FALSE(layer.linear->bias.requires_grad());
    auto names = layer.root->named_parameters();
    EXPECT_TRUE(names.contains("proj.lora_A.default.weight"));
    EXPECT_TRUE(names.contains("proj.lora_B.default.weight"));
    EXPECT_EQ(names.contains("proj.lora_magnitude_vector.default.weight"), dora);
  }
}

// QLoRA: the base is a packed matrix, the adapter the same as over that matrix in floating point.
TEST(LoraTest, OverAQuantizedBaseOnlyTheBaseDiffers) {
  for (const char* format : {"nf4", "nf4-double", "int8"})
    for (bool dora : {false, true}) {
      SCOPED_TRACE(format);
      OneLayer dense, packed;
      quantization::freeze_linears(*packed.root, quantization::frozen_format_by_name(format));
      {
        torch::NoGradGuard no_grad;
        dense.linear->weight.copy_(packed.linear->dense_weight(at::kFloat));
      }
      LoraAdapters over_dense(dense.root), over_packed(packed.root);
      auto input = torch::randn({4, kIn});
      std::vector<torch::Tensor> outputs, gradients;
      for (auto [layer, adapters] :
           {std::pair(&dense, &over_dense), std::pair(&packed, &over_packed)}) {
        adapters->add("default", config_of(false, dora), /*seed=*/9);
        torch::manual_seed(4);
        randomize(*adapters, "default");
        auto x = input.clone().set_requires_grad(true);
        auto y = layer->linear->forward(x);
        y.sum().backward();
        outputs.push_back(y.detach());
        gradients.push_back(x.grad());
      }
      EXPECT_TRUE(torch::allclose(outputs[0], outputs[1], 1e-5, 1e-6));
      EXPECT_TRUE(torch::allclose(gradients[0], gradients[1], 1e-5, 1e-6));
      EXPECT_THROW(over_packed.merge(), InvalidArgument);
    }
}

TEST(LoraTest, DropoutActsWhileTrainingOnlyAndOnTheAdapterOnly) {
  for (bool dora : {false, true}) {
    OneLayer layer;
    LoraAdapters adapters(layer.root);
    auto config = config_of(false, dora);
    config.lora_dropout = 0.5;
    adapters.add("default", config);
    auto input = torch::randn({4, kIn});
    // B is zero: whatever is dropped, the base is whole.
    layer.root->train();
    EXPECT_TRUE(torch::allclose(layer.linear->forward(input),
                                at::linear(input, layer.linear->weight, layer.linear->bias), 1e-5,
                                1e-5));
    randomize(adapters, "default");
    layer.root->eval();
    auto whole = layer.linear->forward(input);
    EXPECT_TRUE(torch::equal(layer.linear->forward(input), whole));
    layer.root->train();
    auto sum = torch::zeros_like(whole);
    constexpr int kTrials = 4000;
    {
      torch::NoGradGuard no_grad;
      for (int i = 0; i < kTrials; ++i) sum += layer.linear->forward(input);
    }
    EXPECT_FALSE(torch::allclose(layer.linear->forward(input), whole, 1e-3, 1e-3));
    // The mean over many masks is the whole function.
    EXPECT_TRUE(torch::allclose(sum / kTrials, whole, 0.1, 0.2));
  }
}

TEST(LoraTest, MergeIsTheSameFunctionAndUnmergeRestoresEveryBit) {
  for (bool dora : {false, true}) {
    OneLayer layer;
    LoraAdapters adapters(layer.root);
    adapters.add("default", config_of(false, dora));
    randomize(adapters, "default");
    auto input = torch::randn({4, kIn});
    auto before = layer.linear->weight.detach().clone();
    auto output = layer.linear->forward(input).detach();
    adapters.merge();
    EXPECT_FALSE(torch::equal(layer.linear->weight, before));
    EXPECT_TRUE(torch::allclose(layer.linear->forward(input), output, 1e-4, 1e-5));
    EXPECT_THROW(adapters.merge(), InvalidArgument);
    EXPECT_THROW(adapters.deactivate(), InvalidArgument);
    adapters.unmerge();
    EXPECT_TRUE(torch::equal(layer.linear->weight, before));
    EXPECT_TRUE(torch::equal(layer.linear->forward(input), output));
  }
}

TEST(LoraTest, MergeAndUnloadLeavesAPlainLayer) {
  OneLayer layer;
  auto input = torch::randn({4, kIn});
  torch::Tensor output;
  {
    LoraAdapters adapters(layer.root);
    adapters.add("default", config_of(false, false));
    randomize(adapters, "default");
    output = layer.linear->forward(input).detach();
    adapters.merge_and_unload();
  }
  EXPECT_EQ(layer.root->named_parameters().keys(),
            (std::vector<std::string>{"proj.weight", "proj.bias"}));
  EXPECT_EQ(layer.linear->method()->name(), "dense");
  EXPECT_TRUE(torch::allclose(layer.linear->forward(input), output, 1e-4, 1e-5));
}

TEST(LoraTest, SeveralAdaptersAreKeptApart) {
  OneLayer layer;
  auto input = torch::randn({4, kIn});
  auto base = layer.linear->forward(input).detach();
  LoraAdapters adapters(layer.root);
  adapters.add("law", config_of(false, false));
  randomize(adapters, "law");
  auto law = layer.linear->forward(input).detach();
  adapters.add("medicine", config_of(true, true));
  randomize(adapters, "medicine");
  auto medicine = layer.linear->forward(input).detach();
  EXPECT_FALSE(torch::allclose(law, medicine));
  for (const auto& parameter : layer.root->named_parameters())
    EXPECT_EQ(parameter.value().requires_grad(),
              parameter.key().find(".medicine.") != std::string::npos)
        << parameter.key();
  adapters.activate("law");
  EXPECT_TRUE(torch::equal(layer.linear->forward(input), law));
  adapters.deactivate();
  EXPECT_TRUE(torch::equal(layer.linear->forward(input), base));
  adapters.remove("law");
  adapters.activate("medicine");
  EXPECT_TRUE(torch::equal(layer.linear->forward(input), medicine));
  adapters.remove("medicine");
  EXPECT_EQ(layer.linear->method()->name(), "dense");
  EXPECT_EQ(layer.root->parameters().size(), 2u);
}

std::shared_ptr<models::Transformer> tiny_model(bool tied) {
  auto config = test_support::tiny_llama_config(17);
  config.tie_word_embeddings = tied;
  auto model = std::make_shared<models::Transformer>(config);
  model->initialize(1);
  return model;
}

TEST(LoraTest, TargetsAreChosenAsPeftChoosesThem) {
  auto model = tiny_model(false);
  EXPECT_EQ(targeted_modules(*model, {}).size(), 14u);  // all linear layers but lm_head
  LoraConfig config{.target_modules = {"q_proj", "model.layers.1.mlp.up_proj"}};
  EXPECT_EQ(
      targeted_modules(*model, config),
      (std::vector<std::string>{"model.layers.0.self_attn.q_proj",
                                "model.layers.1.self_attn.q_proj", "model.layers.1.mlp.up_proj"}));
  config.target_modules = {"re:.*layers\\.0\\..*_proj"};
  config.exclude_modules = {"down_proj"};
  EXPECT_EQ(targeted_modules(*model, config).size(), 6u);
  config.rank_pattern = {{"layers.0.mlp.up_proj", 2}};
  config.alpha_pattern = {{"up_proj", 6}};
  EXPECT_EQ(config.rank_of("model.layers.0.mlp.up_proj"), 2);
  EXPECT_EQ(config.rank_of("model.layers.1.mlp.up_proj"), 8);
  EXPECT_EQ(config.scaling_of("model.layers.0.mlp.up_proj"), 3);
  EXPECT_EQ(config.scaling_of("model.layers.0.mlp.gate_proj"), 1);
}

TEST(LoraTest, OptimizerTrainsTheAdapterAndTheSavedModulesOnly) {
  auto model = tiny_model(false);
  model->to(at::kBFloat16);
  model->set_compute_dtype(at::kBFloat16);
  LoraAdapters adapters(model);
  adapters.add("default",
               {.r = 2, .target_modules = {"q_proj", "down_proj"}, .modules_to_save = {"lm_head"}});
  auto before = model->named_parameters();
  std::map<std::string, torch::Tensor> copies;
  for (const auto& item : before) copies[item.key()] = item.value().detach().clone();
  training::AdamW optimizer(*model, {});
  EXPECT_EQ(optimizer.state_dict().size(), 1 + 2 * (4 * 2 + 1u));
  auto ids = torch::arange(12).view({2, 6});
  for (int step = 0; step < 2; ++step) {
    model->zero_grad();
    model->logits(model->hidden_states(ids))
        .to(at::kFloat)
        .log_softmax(-1)
        .select(2, 3)
        .sum()
        .neg()
        .backward();
    optimizer.step(1e-2);
  }
  for (const auto& item : model->named_parameters()) {
    const bool own =
        item.key().find("lora_") != std::string::npos || item.key() == "lm_head.weight";
    EXPECT_EQ(torch::equal(item.value(), copies[item.key()]), !own) << item.key();
    EXPECT_EQ(item.value().scalar_type(), own ? at::kFloat : at::kBFloat16) << item.key();
  }
  adapters.deactivate();
  EXPECT_EQ(model->lm_head().weight.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(torch::equal(model->lm_head().weight, copies["lm_head.weight"].to(at::kBFloat16)));
}

TEST(LoraTest, MistakesAreNamed) {
  auto model = tiny_model(true);
  LoraAdapters adapters(model);
  auto message = [&](const LoraConfig& config, const std::string& name = "default") {
    try {
      adapters.add(name, config);
    } catch (const InvalidArgument& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_NE(message({.target_modules = {"q_porj"}}).find("q_porj"), std::string::npos);
  EXPECT_NE(message({.target_modules = {"re:("}}).find("regular expression"), std::string::npos);
  EXPECT_NE(
      message({.target_modules = {"q_proj"}, .exclude_modules = {"q_proj"}}).find("no linear"),
      std::string::npos);
  EXPECT_NE(message({.r = 0}).find("r is 0"), std::string::npos);
  EXPECT_NE(message({.lora_alpha = -1}).find("lora_alpha"), std::string::npos);
  EXPECT_NE(message({.lora_dropout = 1}).find("lora_dropout"), std::string::npos);
  EXPECT_NE(message({.modules_to_save = {"lm_head"}}).find("tied"), std::string::npos);
  EXPECT_NE(message({.modules_to_save = {"embed_tokens"}}).find("lm_head too"), std::string::npos);
  EXPECT_NE(message({}, "a.b").find("dots"), std::string::npos);
  EXPECT_TRUE(adapters.names().empty());
  adapters.add("default", {});
  EXPECT_NE(message({}).find("already"), std::string::npos);
  EXPECT_THROW(adapters.activate("other"), NotFound);
  EXPECT_THROW(adapters.unmerge(), InvalidArgument);
}

}  // namespace
}  // namespace deepseek_train::tuning
