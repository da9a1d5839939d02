#include "src/text/answer_finder.h"

#include <algorithm>

#include "deepseek_train/core/error.h"

namespace deepseek_train::text {
namespace {

using jinja::ByteRange;
using jinja::Mark;

constexpr std::string_view kOpen = "<think>", kClose = "</think>";

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// From the first to the last byte that is the message's.
ByteRange range_of_message(const jinja::Rendering& rendering, int32_t message) {
  ByteRange range;
  for (const Mark& mark : rendering.text.marks()) {
    if (mark.message != message) continue;
    if (range.end == 0) range.begin = mark.begin;
    range.end = mark.end;
  }
  return range;
}

// What was written while a loop stood at the message, if its bytes are in there; else all up to the
// next message's bytes.
ByteRange turn_around(const jinja::Rendering& rendering, ByteRange content, int32_t message) {
  for (const auto& turn : rendering.turns)
    if (turn.message == message && turn.range.begin <= content.begin &&
        content.end <= turn.range.end)
      return turn.range;
  ByteRange turn{0, rendering.text.size()};
  for (const Mark& mark : rendering.text.marks()) {
    if (mark.message == message) continue;
    if (mark.end <= content.begin) turn.begin = std::max(turn.begin, mark.end);
    if (mark.begin >= content.end) turn.end = std::min(turn.end, mark.begin);
  }
  return turn;
}

}  // namespace

ByteRange find_thinking(std::string_view content) {
  const size_t close = content.find(kClose);
  if (close == content.npos) return {};
  const size_t open = content.find(kOpen);
  return {open < close ? open : 0, close + kClose.size()};
}

std::vector<ByteRange> AnswerFinder::find(const jinja::Rendering& rendering,
                                          std::span<const ChatMessage> messages) const {
  if (!rendering.generations.empty()) return rendering.generations;
  std::vector<ByteRange> answers;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != "assistant") continue;
    const auto message = static_cast<int32_t>(i);
    const ByteRange content = range_of_message(rendering, message);
    if (content.end == 0) continue;
    answers.push_back(
        extend(rendering, content, message, answers.empty() ? 0 : answers.back().end));
  }
  return answers;
}

ByteRange AnswerFinder::extend(const jinja::Rendering& rendering, ByteRange content,
                               int32_t message, size_t after) const {
  const std::string& text = rendering.text.bytes();
  const ByteRange turn = turn_around(rendering, content, message);
  ByteRange answer = content;
  // The prompt may reach into the content: "<think>\n" that it opens and the content begins with.
  const size_t prompt =
      generation_prompt_.empty() ? text.npos : text.rfind(generation_prompt_, content.begin);
  if (prompt != text.npos && prompt >= std::max(turn.begin, after))
    answer.begin = std::min(prompt + generation_prompt_.size(), content.end);
  const auto tail = std::string_view(text).substr(content.end, turn.end - content.end);
  answer.end += end_of_turn(tail);
  return answer;
}

size_t AnswerFinder::end_of_turn(std::string_view tail) const {
  if (const size_t at = tail.find(eos_); !eos_.empty() && at != tail.npos) return at + eos_.size();
  size_t first = tail.npos, end = 0;
  for (const auto& token : special_) {
    const size_t at = tail.find(token);
    // The longest of those that begin together.
    if (at == tail.npos || at > first || (at == first && at + token.size() < end)) continue;
    first = at;
    end = at + token.size();
  }
  return end;
}

bool is_dropped(const jinja::Rendering& rendering, int32_t message, const std::string& content,
                ByteRange range) {
  std::vector<bool> kept(content.size());
  for (const Mark& mark : rendering.text.marks()) {
    if (mark.message != message) continue;
    if (mark.source == Mark::kDerived) return false;  // all of it, in another form
    std::fill_n(kept.begin() + static_cast<std::ptrdiff_t>(mark.source), mark.end - mark.begin,
                true);
  }
  for (size_t i = range.begin; i < range.end; ++i)
    if (!kept[i] && !is_space(content[i])) return true;
  return false;
}

void check_nothing_dropped(const jinja::Rendering& rendering,
                           std::span<const ChatMessage> messages) {
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto& [role, content] = messages[i];
    const auto message = static_cast<int32_t>(i);
    const bool is_answer = role == "assistant";
    const ByteRange thinking = is_answer ? find_thinking(content) : ByteRange{};
    const bool lost = is_dropped(rendering, message, content, {0, thinking.begin}) ||
                      is_dropped(rendering, message, content, {thinking.end, content.size()});
    DST_CHECK(!lost, "the chat template drops ", is_answer ? "the assistant's turn" : "the turn",
              " ", i + 1, " of ", messages.size(), " (role \"", role, "\") or a part of it; ",
              is_answer ? "nothing would be learned from it: " : "",
              "put a template that writes every turn into the model's chat_template.jinja, remove "
              "the turn, or give the data as prompt and answer");
  }
}

}  // namespace deepseek_train::text
