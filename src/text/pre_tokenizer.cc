#include "src/text/pre_tokenizer.h"

#include <algorithm>

#include "src/text/unicode.h"

namespace deepseek_train::text {
namespace {

// GPT-2's pattern, part of the ByteLevel pre-tokenizer by definition.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// A stretch of the text that matched, or one between matches.
struct Piece {
  Span span;
  bool is_match;
};

std::vector<Piece> pieces_of(std::string_view text, const std::vector<Span>& matches, bool invert) {
  std::vector<Piece> pieces;
  pieces.reserve(2 * matches.size() + 1);
  size_t end = 0;
  for (const Span& match : matches) {
    if (match.begin > end) pieces.push_back({{end, match.begin}, invert});
    pieces.push_back({match, !invert});
    end = match.end;
  }
  if (end < text.size()) pieces.push_back({{end, text.size()}, invert});
  return pieces;
}

// Whether a piece is joined to the one before it.
bool joins_previous(const std::vector<Piece>& pieces, size_t i, SplitBehavior behavior) {
  if (i == 0) return false;
  bool match = pieces[i].is_match, previous = pieces[i - 1].is_match;
  switch (behavior) {
    case SplitBehavior::kContiguous: return match == previous;
    case SplitBehavior::kMergedWithPrevious: return match && !previous;
    case SplitBehavior::kMergedWithNext: return previous && !match;
    case SplitBehavior::kIsolated:
    case SplitBehavior::kRemoved: return false;
  }
  return false;
}

void find_literal(std::string_view text, std::string_view literal, std::vector<Span>& matches) {
  for (size_t at = text.find(literal); at != text.npos;
       at = text.find(literal, at + literal.size()))
    matches.push_back({at, at + literal.size()});
}

void find_numerals(std::string_view text, std::vector<Span>& matches) {
  for (size_t position = 0; position < text.size();) {
    auto [code_point, length] = decode_utf8(text.substr(position));
    if (is_numeral(code_point)) matches.push_back({position, position + length});
    position += std::max<size_t>(length, 1);
  }
}

}  // namespace

PreTokenizer::PreTokenizer(const std::vector<PreTokenizerStep>& steps) {
  for (const auto& step : steps) steps_.push_back(prepare(step));
}

PreTokenizer::Step PreTokenizer::prepare(const PreTokenizerStep& step) {
  Step prepared;
  if (const auto* split = std::get_if<SplitStep>(&step)) {
    if (split->is_regex) prepared.regex.emplace(split->pattern);
    if (!split->is_regex) prepared.literal = split->pattern;
    prepared.behavior = split->behavior;
    prepared.invert = split->invert;
  } else if (const auto* digits = std::get_if<DigitsStep>(&step)) {
    prepared.digits = true;
    prepared.behavior = digits->individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous;
  } else if (const auto* byte_level = std::get_if<ByteLevelStep>(&step)) {
    if (byte_level->use_regex) prepared.regex.emplace(kGpt2Pattern);
    prepared.add_prefix_space = byte_level->add_prefix_space;
  }
  return prepared;
}

void PreTokenizer::find(const Step& step, std::string_view text, PreTokenizerScratch& scratch) {
  scratch.matches.clear();
  if (step.regex) step.regex->find_all(text, scratch.regex, scratch.matches);
  if (!step.literal.empty()) find_literal(text, step.literal, scratch.matches);
  if (step.digits) find_numerals(text, scratch.matches);
}

void PreTokenizer::apply(const Step& step, std::string_view text, PreTokenizerScratch& scratch) {
  if (step.add_prefix_space && !text.starts_with(' '))
    text = scratch.storage.emplace_back(std::string(" ").append(text));
  find(step, text, scratch);
  auto pieces = pieces_of(text, scratch.matches, step.invert);
  Span joined;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (step.behavior == SplitBehavior::kRemoved && pieces[i].is_match) continue;
    bool join = joins_previous(pieces, i, step.behavior);
    joined = {join ? joined.begin : pieces[i].span.begin, pieces[i].span.end};
    auto word = text.substr(joined.begin, joined.end - joined.begin);
    if (join) {
      scratch.next_words.back() = word;
    } else {
      scratch.next_words.push_back(word);
    }
  }
}

void PreTokenizer::split(std::string_view text, PreTokenizerScratch& scratch) const {
  scratch.words.clear();
  if (text.empty()) return;
  scratch.words.push_back(text);
  for (const auto& step : steps_) {
    scratch.next_words.clear();
    for (std::string_view word : scratch.words) apply(step, word, scratch);
    std::swap(scratch.words, scratch.next_words);
  }
}

}  // namespace deepseek_train::text
