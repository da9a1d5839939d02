#include "src/text/bpe.h"

#include <queue>

#include "deepseek_train/core/error.h"
#include "src/text/byte_alphabet.h"

namespace deepseek_train::text {
namespace {

// Up to this many symbols, looking at all ranks after each merge is faster than a heap.
constexpr size_t kShortWord = 96;

// A pair that may merge; stale once one of the two has merged elsewhere.
struct Candidate {
  uint32_t rank;
  int32_t position;  // of the left symbol
  int32_t left;
  int32_t right;
  int32_t result;
};

// Orders a heap by the smallest rank, then the leftmost place.
struct Later {
  bool operator()(const Candidate& a, const Candidate& b) const {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  }
};

using IdMap = std::unordered_map<std::string_view, int32_t>;

IdMap map_bpe_tokens(const TokenizerModel& model) {
  IdMap ids;
  for (size_t i = 0; i < model.tokens.size(); ++i)
    if (model.in_bpe_vocabulary[i]) ids.emplace(model.tokens[i], static_cast<int32_t>(i));
  return ids;
}

int32_t find_part(const IdMap& ids, std::string_view token, size_t merge) {
  auto found = ids.find(token);
  DST_CHECK(found != ids.end(), "merge ", merge, " of the tokenizer needs the token \"", token,
            "\", which is not in its vocabulary");
  return found->second;
}

}  // namespace

Bpe::Bpe(const TokenizerModel& model) : merges_(model.merges.size()) {
  auto ids = map_bpe_tokens(model);
  for (size_t byte = 0; byte < id_of_byte_.size(); ++byte) {
    auto found = ids.find(byte_char(static_cast<unsigned char>(byte)));
    id_of_byte_[byte] = found == ids.end() ? -1 : found->second;
  }
  for (size_t i = 0; i < model.merges.size(); ++i) {
    const auto& [left, right] = model.merges[i];
    int32_t result = find_part(ids, left + right, i);
    merges_.insert(find_part(ids, left, i), find_part(ids, right, i),
                   {static_cast<uint32_t>(i), result});
  }
  byte_merges_.resize(256 * 256);
  for (size_t left = 0; left < 256; ++left)
    for (size_t right = 0; right < 256; ++right)
      if (id_of_byte_[left] >= 0 && id_of_byte_[right] >= 0)
        byte_merges_[256 * left + right] = merges_.find(id_of_byte_[left], id_of_byte_[right]);
  if (!model.ignore_merges) return;
  for (const auto& [token, id] : ids)
    if (auto bytes = bytes_of_token(token)) whole_words_.emplace(std::move(*bytes), id);
}

void Bpe::encode(std::string_view word, std::vector<int32_t>& ids) const {
  if (!whole_words_.empty()) {
    if (auto found = whole_words_.find(word); found != whole_words_.end())
      return ids.push_back(found->second);
  }
  const size_t begin = ids.size();
  if (word.size() <= kShortWord) return merge_short(word, ids);
  for (char c : word) {
    int32_t id = id_of_byte_[static_cast<unsigned char>(c)];
    if (id >= 0) ids.push_back(id);
  }
  merge_long(ids, begin);
}

// Ranks stand beside the symbols, so that a merge asks the table only for the two pairs it makes.
void Bpe::merge_short(std::string_view word, std::vector<int32_t>& ids) const {
  std::array<int32_t, kShortWord> symbols;
  std::array<Merge, kShortWord + 1> merges;  // of symbol i with the next
  size_t count = 0;
  int previous = -1;
  for (char c : word) {
    const auto byte = static_cast<unsigned char>(c);
    if (id_of_byte_[byte] < 0) continue;
    if (previous >= 0) merges[count - 1] = byte_merges_[static_cast<size_t>(previous) * 256 + byte];
    symbols[count++] = id_of_byte_[byte];
    previous = byte;
  }
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i)
      if (merges[i].rank < merges[best].rank) best = i;
    if (merges[best].result < 0) break;
    symbols[best] = merges[best].result;
    --count;
    for (size_t i = best + 1; i < count; ++i) {
      symbols[i] = symbols[i + 1];
      merges[i] = merges[i + 1];
    }
    if (best > 0) merges[best - 1] = merges_.find(symbols[best - 1], symbols[best]);
    if (best + 1 < count) merges[best] = merges_.find(symbols[best], symbols[best + 1]);
  }
  ids.insert(ids.end(), symbols.begin(), symbols.begin() + static_cast<std::ptrdiff_t>(count));
}

// The symbols form a linked list; a heap holds every pair that may merge. A merge makes at most two
// new pairs and leaves the old ones in the heap, where the ids they were made for tell that they
// are stale.
void Bpe::merge_long(std::vector<int32_t>& ids, size_t begin) const {
  auto count = static_cast<int32_t>(ids.size() - begin);
  std::vector<BpeSymbol> symbols(static_cast<size_t>(count));
  for (int32_t i = 0; i < count; ++i)
    symbols[static_cast<size_t>(i)] = {ids[begin + static_cast<size_t>(i)], i - 1,
                                       i + 1 < count ? i + 1 : -1};
  auto at = [&symbols](int32_t i) -> BpeSymbol& { return symbols[static_cast<size_t>(i)]; };

  std::priority_queue<Candidate, std::vector<Candidate>, Later> candidates;
  auto consider = [&](int32_t position) {
    if (position < 0 || at(position).next < 0) return;
    int32_t left = at(position).id, right = at(at(position).next).id;
    Merge merge = merges_.find(left, right);
    if (merge.result >= 0) candidates.push({merge.rank, position, left, right, merge.result});
  };
  for (int32_t i = 0; i < count; ++i) consider(i);

  while (!candidates.empty()) {
    Candidate top = candidates.top();
    candidates.pop();
    BpeSymbol& left = at(top.position);
    if (left.id != top.left || left.next < 0 || at(left.next).id != top.right) continue;
    BpeSymbol& right = at(left.next);
    left.id = top.result;
    right.id = -1;  // merged away: no candidate names it
    left.next = right.next;
    if (left.next >= 0) at(left.next).previous = top.position;
    consider(left.previous);
    consider(top.position);
  }

  ids.resize(begin);
  for (int32_t i = 0; i >= 0; i = at(i).next) ids.push_back(at(i).id);
}

}  // namespace deepseek_train::text
