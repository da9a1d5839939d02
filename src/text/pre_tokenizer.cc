#include "src/text/pre_tokenizer.h"

#include "src/text/tokenizer_patterns.h"

namespace deepseek_train::text {
namespace {

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

}  // namespace

PreTokenizer::PreTokenizer(const std::vector<PreTokenizerStep>& steps) {
  for (const auto& step : steps) steps_.push_back(prepare(step));
}

PreTokenizer::Step PreTokenizer::prepare(const PreTokenizerStep& step) {
  if (const auto* split = std::get_if<SplitStep>(&step)) return prepare(*split);
  Step prepared;
  if (const auto* digits = std::get_if<DigitsStep>(&step)) {
    prepared.scan = digits_scanner(digits->individual);
  } else if (const auto* byte_level = std::get_if<ByteLevelStep>(&step)) {
    if (byte_level->use_regex) prepared.scan = find_word_scanner(kGpt2Pattern);
    prepared.add_prefix_space = byte_level->add_prefix_space;
  }
  return prepared;
}

// A scanner gives matches and what lies between them alike, as an isolating split needs them.
PreTokenizer::Step PreTokenizer::prepare(const SplitStep& split) {
  Step prepared;
  prepared.behavior = split.behavior;
  prepared.invert = split.invert;
  if (!split.is_regex) {
    prepared.literal = split.pattern;
  } else {
    if (split.behavior == SplitBehavior::kIsolated)
      prepared.scan = find_word_scanner(split.pattern);
    if (prepared.scan == nullptr) prepared.regex.emplace(split.pattern);
  }
  return prepared;
}

void PreTokenizer::find(const Step& step, std::string_view text, PreTokenizerScratch& scratch) {
  scratch.matches.clear();
  if (step.regex) step.regex->find_all(text, scratch.regex, scratch.matches);
  if (!step.literal.empty()) find_literal(text, step.literal, scratch.matches);
}

void PreTokenizer::apply(const Step& step, std::string_view text, PreTokenizerScratch& scratch) {
  if (step.add_prefix_space && !text.starts_with(' '))
    text = scratch.storage.emplace_back(std::string(" ").append(text));
  if (step.scan != nullptr) {
    for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
      end = step.scan(text, begin);
      scratch.next_words.push_back(text.substr(begin, end - begin));
    }
    return;
  }
  if (!step.regex && step.literal.empty()) return scratch.next_words.push_back(text);
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
