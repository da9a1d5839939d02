#include "deepseek_train/tuning/chat_records.h"

#include <gtest/gtest.h>

#include "deepseek_train/core/error.h"
#include "tests/text/small_tokenizer.h"

namespace deepseek_train::tuning {
namespace {

const std::vector<data::Message> kChat = {
    {"user", "hi"}, {"assistant", "yo"}, {"user", "so?"}, {"assistant", "so"}};

text::Tokenizer chat_tokenizer() {
  return text::Tokenizer::from_vocabulary(text::small_vocabulary());
}

TEST(ChatRecords, TrainingTakesTheLossOnEveryAnswerAndItsEnd) {
  const std::vector<data::Segment> wanted = {
      {"<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", false},
      {"yo<|im_end|>", true},
      {"\n<|im_start|>user\nso?<|im_end|>\n<|im_start|>assistant\n", false},
      {"so<|im_end|>", true},
      {"\n", false}};
  EXPECT_EQ(render_for_training(chat_tokenizer())(kChat), wanted);
}

TEST(ChatRecords, ScoringAsksForTheLastAnswer) {
  const std::vector<data::Segment> wanted = {
      {"<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n"
       "<|im_start|>user\nso?<|im_end|>\n<|im_start|>assistant\n",
       false},
      {"so", true}};
  EXPECT_EQ(render_for_scoring(chat_tokenizer())(kChat), wanted);
}

TEST(ChatRecords, ScoringNeedsAQuestionAndAnAnswer) {
  auto render = render_for_scoring(chat_tokenizer());
  EXPECT_THROW(render({{"user", "hi"}, {"assistant", "yo"}, {"user", "so?"}}), InvalidArgument);
  EXPECT_THROW(render({{"assistant", "yo"}}), InvalidArgument);
}

// A model without a chat template still takes data without chats.
TEST(ChatRecords, AMissingTemplateIsAnErrorOnlyWhenAChatNeedsIt) {
  auto vocabulary = text::small_vocabulary();
  vocabulary.chat_template = "";
  const auto tokenizer = text::Tokenizer::from_vocabulary(vocabulary);
  EXPECT_THROW(render_for_training(tokenizer)(kChat), InvalidArgument);
  EXPECT_THROW(render_for_scoring(tokenizer)(kChat), InvalidArgument);
}

TEST(ChatRecords, AMaskOfNothingOrEverythingIsRefused) {
  auto render = render_for_training(chat_tokenizer());
  EXPECT_THROW(render({{"user", "hi"}}), InvalidArgument);
  EXPECT_THROW(render({{"user", "hi"}, {"assistant", ""}}), InvalidArgument);
  auto vocabulary = text::small_vocabulary();
  vocabulary.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}";
  auto bare = render_for_training(text::Tokenizer::from_vocabulary(vocabulary));
  EXPECT_THROW(bare({{"assistant", "yo"}}), InvalidArgument);
}

TEST(ChatRecords, ReasoningIsMaskedWhereTheRecipeSaysSo) {
  const std::vector<data::Message> chat = {{"user", "hi"}, {"assistant", "<think>a</think>b"}};
  const auto segments = render_for_training(chat_tokenizer(), text::ThinkPolicy::kMask)(chat);
  ASSERT_EQ(segments.size(), 3u);
  EXPECT_TRUE(segments[0].text.ends_with("<think>a</think>") && !segments[0].loss);
  EXPECT_EQ(segments[1], (data::Segment{"b<|im_end|>", true}));
}

}  // namespace
}  // namespace deepseek_train::tuning
