#include "src/text/added_tokens.h"

#include <algorithm>

#include "src/text/unicode.h"

namespace deepseek_train::text {
namespace {

// Begin of the last character before `position`, which must not be 0.
size_t previous_char(std::string_view text, size_t position) {
  do --position;
  while (position > 0 && (static_cast<unsigned char>(text[position]) & 0xc0) == 0x80);
  return position;
}

bool word_ends_at(std::string_view text, size_t position) {
  return position > 0 &&
         is_word_char(decode_utf8(text.substr(previous_char(text, position))).code_point);
}

bool word_begins_at(std::string_view text, size_t position) {
  return position < text.size() && is_word_char(decode_utf8(text.substr(position)).code_point);
}

size_t skip_space_back(std::string_view text, size_t position) {
  while (position > 0) {
    size_t previous = previous_char(text, position);
    if (!is_white_space(decode_utf8(text.substr(previous)).code_point)) break;
    position = previous;
  }
  return position;
}

size_t skip_space(std::string_view text, size_t position) {
  while (position < text.size()) {
    auto [code_point, length] = decode_utf8(text.substr(position));
    if (!is_white_space(code_point)) break;
    position += length;
  }
  return position;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)), trie_(1) {
  for (size_t i = 0; i < tokens_.size(); ++i) insert(static_cast<int>(i));
}

void AddedTokenFinder::insert(int token) {
  const auto& content = tokens_[static_cast<size_t>(token)].content;
  begins_token_[static_cast<unsigned char>(content.front())] = true;
  size_t node = 0;
  for (char c : content) {
    auto [child, added] =
        trie_[node].children.try_emplace(static_cast<unsigned char>(c), trie_.size());
    node = child->second;
    if (added) trie_.emplace_back();
  }
  trie_[node].token = token;
}

const AddedToken* AddedTokenFinder::match_at(std::string_view text, size_t position) const {
  int longest = -1;
  size_t node = 0;
  for (size_t i = position; i < text.size(); ++i) {
    auto child = trie_[node].children.find(static_cast<unsigned char>(text[i]));
    if (child == trie_[node].children.end()) break;
    node = child->second;
    if (trie_[node].token >= 0) longest = trie_[node].token;
  }
  return longest < 0 ? nullptr : &tokens_[static_cast<size_t>(longest)];
}

void AddedTokenFinder::split(std::string_view text, bool parse_special,
                             std::vector<Segment>& segments) const {
  size_t done = 0;  // all before is in segments
  size_t position = 0;
  while (position < text.size()) {
    const AddedToken* token = begins_token_[static_cast<unsigned char>(text[position])]
                                  ? match_at(text, position)
                                  : nullptr;
    if (token == nullptr) {
      ++position;
      continue;
    }
    size_t begin = position, end = position + token->content.size();
    position = end;  // a token refused below is not looked into either
    if (token->special && !parse_special) continue;
    if (token->single_word && (word_ends_at(text, begin) || word_begins_at(text, end))) continue;
    if (token->lstrip) begin = std::max(skip_space_back(text, begin), done);
    if (token->rstrip) end = skip_space(text, end);
    if (begin > done) segments.push_back({text.substr(done, begin - done), std::nullopt});
    segments.push_back({text.substr(begin, end - begin), token->id});
    done = position = end;
  }
  if (done < text.size()) segments.push_back({text.substr(done), std::nullopt});
}

}  // namespace deepseek_train::text
