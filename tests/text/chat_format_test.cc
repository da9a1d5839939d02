#include "deepseek_train/text/chat_format.h"

#include <gtest/gtest.h>

#include <random>

#include "deepseek_train/core/env.h"
#include "deepseek_train/core/error.h"
#include "tests/support/trials.h"
#include "tests/text/small_tokenizer.h"

namespace deepseek_train::text {
namespace {

using Messages = std::vector<ChatMessage>;
using Strings = std::vector<std::string>;

// The template with a vocabulary that has its special tokens, the last of them the eos token.
ChatFormat format_with(const std::string& chat_template, Strings special = {},
                       ThinkPolicy think = ThinkPolicy::kKeep) {
  auto vocabulary = small_vocabulary();
  vocabulary.chat_template = chat_template;
  for (auto& token : special) {
    vocabulary.tokens.push_back(token);
    vocabulary.token_types.push_back(3);
    vocabulary.eos_id = static_cast<int32_t>(vocabulary.tokens.size()) - 1;
  }
  return ChatFormat::of(Tokenizer::from_vocabulary(vocabulary), {.think = think});
}

std::string file(const std::string& name) {
  return read_text(posix_env(), concat("tests/text/templates/", name, ".jinja"));
}

ChatFormat deepseek(const std::string& name, ThinkPolicy think = ThinkPolicy::kKeep) {
  return format_with(file(name), {"<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"}, think);
}

ChatFormat qwen3(ThinkPolicy think = ThinkPolicy::kKeep) {
  return format_with(file("qwen3"), {}, think);
}

std::string text_of(const std::vector<ChatSegment>& segments) {
  std::string text;
  for (const auto& segment : segments) text += segment.text;
  return text;
}

Strings answers_of(const std::vector<ChatSegment>& segments) {
  Strings answers;
  for (const auto& segment : segments)
    if (segment.is_answer) answers.push_back(segment.text);
  return answers;
}

std::string error_of(const ChatFormat& format, const Messages& messages) {
  try {
    format.render(messages);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "no error";
}

const Messages kTwoTurns = {
    {"user", "hi"}, {"assistant", "yo"}, {"user", "so?"}, {"assistant", "k"}};
const Messages kReasoning = {{"user", "hi"}, {"assistant", "<think>\nr\n</think>\n\nans"}};
const std::string kEos = "<｜end▁of▁sentence｜>";

TEST(ChatFormat, AnswersAreMarkedWithTheirEnd) {
  Messages messages = {{"user", "hi"}, {"assistant", "yo"}, {"user", "so?"}};
  auto segments = format_with(kChatMl).render(messages, true);
  ASSERT_EQ(segments.size(), 3u);
  EXPECT_EQ(segments[0].text, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_FALSE(segments[0].is_answer);
  EXPECT_EQ(segments[1].text, "yo<|im_end|>");
  EXPECT_TRUE(segments[1].is_answer);
  EXPECT_EQ(segments[2].text, "\n<|im_start|>user\nso?<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_FALSE(segments[2].is_answer);
}

TEST(ChatFormat, RealTemplatesTrainEveryAnswerAndItsEndOnly) {
  EXPECT_EQ(answers_of(format_with(file("qwen2_5")).render(kTwoTurns)),
            (Strings{"yo<|im_end|>", "k<|im_end|>"}));
  EXPECT_EQ(answers_of(qwen3().render(kTwoTurns)),
            (Strings{"yo<|im_end|>", "<think>\n\n</think>\n\nk<|im_end|>"}));
  for (const char* name : {"deepseek_v3", "deepseek_r1_2025_01", "deepseek_r1_2025_02"})
    EXPECT_EQ(answers_of(deepseek(name).render(kTwoTurns)), (Strings{"yo" + kEos, "k" + kEos}))
        << name;
  auto llama = format_with(file("llama3_style"), {"<|start_header_id|>", "<|eot_id|>"});
  EXPECT_EQ(answers_of(llama.render(kTwoTurns)), (Strings{"yo<|eot_id|>", "k<|eot_id|>"}));
}

TEST(ChatFormat, TheLastTurnsReasoningIsKeptWhereTheTemplateStripsIt) {
  auto segments = deepseek("deepseek_r1_2025_02").render(kReasoning);
  // As when it is used: the prompt opens the reasoning, the model goes on from there.
  ASSERT_EQ(segments.size(), 2u);
  EXPECT_TRUE(segments[0].text.ends_with("<｜User｜>hi<｜Assistant｜><think>\n"));
  EXPECT_EQ(segments[1].text, "r\n</think>\n\nans" + kEos);
  EXPECT_EQ(answers_of(deepseek("deepseek_r1_2025_01").render(kReasoning)),
            Strings{"<think>\nr\n</think>\n\nans" + kEos});
  // A record of the model's output, which lacks the opening that was in the prompt.
  Messages without_opening = {{"user", "hi"}, {"assistant", "r\n</think>\n\nans"}};
  EXPECT_EQ(text_of(deepseek("deepseek_r1_2025_02").render(without_opening)), text_of(segments));
  EXPECT_EQ(answers_of(qwen3().render(kReasoning)),
            Strings{"<think>\nr\n</think>\n\nans<|im_end|>"});
}

TEST(ChatFormat, EarlierReasoningIsWhatTheTemplateMakesOfIt) {
  Messages messages = kReasoning;
  messages.insert(messages.end(), {{"user", "and?"}, {"assistant", "<think>s</think>end"}});
  EXPECT_EQ(answers_of(deepseek("deepseek_r1_2025_01").render(messages)),
            (Strings{"\n\nans" + kEos, "<think>s</think>end" + kEos}));
  EXPECT_EQ(answers_of(qwen3().render(messages)),
            (Strings{"ans<|im_end|>", "<think>\ns\n</think>\n\nend<|im_end|>"}));
}

TEST(ChatFormat, ReasoningIsMaskedOrDroppedAsTold) {
  for (const char* name : {"deepseek_r1_2025_01", "deepseek_r1_2025_02"}) {
    auto masked = deepseek(name, ThinkPolicy::kMask).render(kReasoning);
    EXPECT_EQ(text_of(masked), text_of(deepseek(name).render(kReasoning)));
    EXPECT_EQ(answers_of(masked), Strings{"\n\nans" + kEos});
    auto dropped = deepseek(name, ThinkPolicy::kDrop).render(kReasoning);
    EXPECT_EQ(answers_of(dropped), Strings{"ans" + kEos});
    EXPECT_EQ(text_of(dropped).find("think"), std::string::npos);
  }
  EXPECT_EQ(answers_of(qwen3(ThinkPolicy::kMask).render(kReasoning)), Strings{"\n\nans<|im_end|>"});
  EXPECT_EQ(answers_of(qwen3(ThinkPolicy::kDrop).render(kReasoning)),
            Strings{"<think>\n\n</think>\n\nans<|im_end|>"});
  EXPECT_EQ(parse_think_policy("mask"), ThinkPolicy::kMask);
  EXPECT_THROW(parse_think_policy("hide"), InvalidArgument);
}

TEST(ChatFormat, AnswersAreFoundByWhereTheyCameFromNotByTheirText) {
  Messages echo = {
      {"user", "yo"}, {"assistant", "yo"}, {"user", "yo<|im_end|>"}, {"assistant", "yo"}};
  auto segments = format_with(kChatMl).render(echo);
  EXPECT_EQ(answers_of(segments), (Strings{"yo<|im_end|>", "yo<|im_end|>"}));
  EXPECT_EQ(segments[0].text, "<|im_start|>user\nyo<|im_end|>\n<|im_start|>assistant\n");
}

TEST(ChatFormat, ContentIsFollowedThroughWhatTheTemplateDoesToIt) {
  Messages messages = {{"user", "a"}, {"assistant", "  one two  "}};
  EXPECT_EQ(
      answers_of(format_with("{% for m in messages %}[{{ m.role }}]{{ m.content | trim | upper }}"
                             "<|im_end|>{% endfor %}")
                     .render(messages)),
      Strings{"ONE TWO<|im_end|>"});
  EXPECT_EQ(
      answers_of(format_with("{% macro show(m) %}{% set t %}{{ m.content.split(' ') | join('_') }}"
                             "{% endset %}{{ t.strip('_') }}{% endmacro %}"
                             "{% for i in range(2) %}>{{ show(messages[i]) }}.\n{% endfor %}")
                     .render(messages)),
      Strings{"one_two"});
  EXPECT_EQ(
      answers_of(format_with("Q: {{ messages[0].content }} A: {{ messages[1].content | tojson }};")
                     .render(messages)),
      Strings{"\"  one two  \""});
}

TEST(ChatFormat, GenerationBlocksSayThemselvesWhatIsAnswered) {
  auto format = format_with(
      "{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %} {{ m.content }}!"
      "{% endgeneration %}\n{% else %}Q:{{ m.content }}\n{% endif %}{% endfor %}");
  EXPECT_EQ(answers_of(format.render(kTwoTurns)), (Strings{" yo!", " k!"}));
}

TEST(ChatFormat, DroppedTurnsAreRefusedWithWhatToDo) {
  auto users_only =
      format_with("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}");
  auto error = error_of(users_only, kTwoTurns);
  for (const char* part :
       {"drops the assistant's turn 2 of 4", "chat_template.jinja", "prompt and answer"})
    EXPECT_NE(error.find(part), error.npos) << error;
  auto cut = format_with("{% for m in messages %}{{ m.content[:3] }}{% endfor %}");
  EXPECT_NE(error_of(cut, {{"user", "abcdef"}}).find("turn 1 of 1 (role \"user\")"),
            std::string::npos);
  EXPECT_EQ(error_of(cut, {{"user", "abc \n "}}), "no error");
  // DeepSeek's writes the last system turn only, and no role that it does not know.
  Messages two_systems = {{"system", "a"}, {"system", "b"}, {"user", "c"}};
  EXPECT_NE(error_of(deepseek("deepseek_r1_2025_01"), two_systems).find("turn 1 of 3"),
            std::string::npos);
  EXPECT_NE(error_of(deepseek("deepseek_v3"), {{"human", "hi"}}).find("\"human\""),
            std::string::npos);
}

TEST(ChatFormat, MistakesAreNamed) {
  EXPECT_THROW(format_with(kChatMl).render({}), InvalidArgument);
  EXPECT_NE(error_of(format_with("{{ raise_exception('no tools') }}"), kTwoTurns).find("no tools"),
            std::string::npos);
  EXPECT_THROW(format_with(""), InvalidArgument);
  try {
    format_with("a\n{{ x | nosuch }}");
    ADD_FAILURE() << "no error";
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("line 2: the filter \"nosuch\""), std::string::npos);
  }
}

TEST(ChatFormat, TheDateIsTheOneThatIsGiven) {
  auto vocabulary = small_vocabulary();
  vocabulary.chat_template =
      "{{ strftime_now('%Y') if strftime_now is defined else 'once' }}{{ messages[0].content }}";
  auto tokenizer = Tokenizer::from_vocabulary(vocabulary);
  const Messages messages = {{"user", "."}};
  EXPECT_EQ(text_of(ChatFormat::of(tokenizer).render(messages)), "once.");
  const std::time_t middle_of_2024 = 1720000000;
  EXPECT_EQ(text_of(ChatFormat::of(tokenizer, {.now = middle_of_2024}).render(messages)), "2024.");
}

// Whatever the conversation: the assistant's letters are trained, all of them, and nobody else's.
TEST(ChatFormat, OnlyTheAssistantsLettersTrain) {
  const std::vector<ChatFormat> formats = {
      format_with(kChatMl),
      format_with(file("qwen2_5")),
      qwen3(),
      deepseek("deepseek_v3"),
      deepseek("deepseek_r1_2025_01"),
      deepseek("deepseek_r1_2025_02"),
      format_with(file("llama3_style"), {"<|start_header_id|>", "<|eot_id|>"})};
  std::mt19937 random(11);
  auto content = [&](const Strings& letters) {
    std::string text;
    for (size_t i = 1 + random() % 6; i > 0; --i) text += letters[random() % letters.size()];
    return text;
  };

  const Strings theirs = {"ä", "ö", " ü ", "\n\n", "<｜Assistant｜>", "<|im_start|>assistant\n"};
  for (int trial = 0; trial < test_support::num_trials(200, 20'000); ++trial) {
    Messages messages;
    if (random() % 2) messages.push_back({"system", "s" + content(theirs)});
    for (size_t turns = 1 + random() % 3; turns > 0; --turns) {
      messages.push_back({"user", "ä" + content(theirs)});
      messages.push_back({"assistant", "Ä" + content({"Ä", "Ö", "\n"})});
    }
    if (random() % 2) messages.back().content = "<think>\nÜ" + content({"Ü", "\n"}) + "</think>Ö";
    const auto& format = formats[random() % formats.size()];
    for (const auto& segment : format.render(messages)) {
      for (const char* letter : {"ä", "ö", "ü"})
        ASSERT_TRUE(!segment.is_answer || segment.text.find(letter) == std::string::npos)
            << segment.text;
      for (const char* letter : {"Ä", "Ö", "Ü"})
        ASSERT_TRUE(segment.is_answer || segment.text.find(letter) == std::string::npos)
            << segment.text;
    }
  }
}

}  // namespace
}  // namespace deepseek_train::text
