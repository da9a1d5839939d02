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

// A model without a known chat format still takes data without chats.
TEST(ChatRecords, AnUnknownFormatIsAnErrorOnlyWhenAChatNeedsIt) {
  auto vocabulary = text::small_vocabulary();
  vocabulary.tokens[text::kStart] = "<|start|>";
  const auto tokenizer = text::Tokenizer::from_vocabulary(vocabulary);
  EXPECT_THROW(render_for_training(tokenizer)(kChat), InvalidArgument);
  EXPECT_THROW(render_for_scoring(tokenizer)(kChat), InvalidArgument);
}

}  // namespace
}  // namespace deepseek_train::tuning
