#include "deepseek_train/quantization/scheme.h"

#include <gtest/gtest.h>

#include "deepseek_train/core/error.h"

namespace deepseek_train::quantization {
namespace {

TEST(SchemeTest, W8A8IsPerChannelWeightsAndDynamicTokens) {
  const QuantizationScheme scheme = scheme_by_name("w8a8");
  EXPECT_EQ(scheme, w8a8());
  EXPECT_EQ(scheme.weights.strategy, Strategy::kChannel);
  EXPECT_FALSE(scheme.weights.dynamic);
  ASSERT_TRUE(scheme.input_activations);
  EXPECT_EQ(scheme.input_activations->strategy, Strategy::kToken);
  EXPECT_TRUE(scheme.input_activations->dynamic);
  EXPECT_TRUE(scheme.weights.symmetric && scheme.input_activations->symmetric);
  EXPECT_EQ(scheme.weights.num_bits, 8);
}

TEST(SchemeTest, EveryListedNameIsKnown) {
  for (const std::string& name : scheme_names()) EXPECT_EQ(scheme_by_name(name).name, name);
}

TEST(SchemeTest, UnknownNameIsRefusedWithTheNearest) {
  for (const char* name : {"w8a16", "W8A8", "w4a8"}) {
    try {
      scheme_by_name(name);
      FAIL() << name;
    } catch (const InvalidArgument& error) {
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("did you mean 'w8a8'?"), std::string::npos)
          << error.what();
    }
  }
}

}  // namespace
}  // namespace deepseek_train::quantization
