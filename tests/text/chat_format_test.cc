#include "deepseek_train/text/chat_format.h"

#include <gtest/gtest.h>

#include "deepseek_train/core/error.h"
#include "tests/text/small_tokenizer.h"

namespace deepseek_train::text {
namespace {

ChatFormat format_with(const std::string& chat_template) {
  auto vocabulary = small_vocabulary();
  vocabulary.chat_template = chat_template;
  return ChatFormat::of(Tokenizer::from_vocabulary(vocabulary));
}

TEST(ChatFormat, AnswersAreMarkedWithTheirEnd) {
  std::vector<ChatMessage> messages = {{"user", "hi"}, {"assistant", "yo"}, {"user", "so?"}};
  auto segments = format_with("").render(messages, true);
  ASSERT_EQ(segments.size(), 3u);
  EXPECT_EQ(segments[0].text, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_FALSE(segments[0].is_answer);
  EXPECT_EQ(segments[1].text, "yo<|im_end|>");
  EXPECT_TRUE(segments[1].is_answer);
  EXPECT_EQ(segments[2].text, "\n<|im_start|>user\nso?<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_FALSE(segments[2].is_answer);
}

TEST(ChatFormat, TheTemplatesSystemMessageComesFirstIfThereIsNone) {
  for (const char* line_end : {"\n", "\\n"}) {
    auto format =
        format_with(concat("{{ '<|im_start|>system", line_end, "' }}{{ '<|im_start|>system",
                           line_end, "Be kind.<|im_end|>", line_end, "' }}"));
    EXPECT_EQ(format.default_system(), "Be kind.");
    std::vector<ChatMessage> without = {{"user", "hi"}},
                             with = {{"system", "Sort."}, {"user", "hi"}};
    EXPECT_EQ(format.render(without)[0].text,
              "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n");
    EXPECT_EQ(format.render(with)[0].text,
              "<|im_start|>system\nSort.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n");
  }
}

TEST(ChatFormat, MistakesAreNamed) {
  auto format = format_with("");
  std::vector<ChatMessage> tool = {{"tool", "x"}};
  EXPECT_THROW(format.render({}), InvalidArgument);
  try {
    format.render(tool);
    ADD_FAILURE() << "no error";
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("\"tool\""), std::string::npos);
  }
}

TEST(ChatFormat, OtherFormatsAreRefusedByTheirTemplate) {
  auto vocabulary = small_vocabulary();
  vocabulary.tokens[kStart] = "<|start|>";
  vocabulary.chat_template = "{{ bos_token }}[INST]";
  try {
    ChatFormat::of(Tokenizer::from_vocabulary(vocabulary));
    ADD_FAILURE() << "no error";
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("[INST]"), std::string::npos);
  }
}

}  // namespace
}  // namespace deepseek_train::text
