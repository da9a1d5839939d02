// The merge loops against the definition: merge the earliest-learned pair, leftmost first, until
// none is left.
#include "src/text/bpe.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <set>

#include "src/text/byte_alphabet.h"
#include "tests/support/trials.h"

namespace deepseek_train::text {
namespace {

// Random merges over a few letters: many ways to merge every word.
TokenizerModel random_model(uint32_t seed) {
  TokenizerModel model;
  for (char c : std::string("abcd"))
    model.tokens.push_back(byte_char(static_cast<unsigned char>(c)));
  std::mt19937 random(seed);
  std::set<std::string> known(model.tokens.begin(), model.tokens.end());
  for (int i = 0; i < 60; ++i) {
    auto left = model.tokens[random() % model.tokens.size()],
         right = model.tokens[random() % model.tokens.size()];
    if (left.size() + right.size() > 12) continue;
    model.merges.emplace_back(left, right);
    if (known.insert(left + right).second) model.tokens.push_back(left + right);
  }
  model.in_bpe_vocabulary.assign(model.tokens.size(), true);
  return model;
}

std::vector<std::string> reference_merge(const TokenizerModel& model, const std::string& word) {
  std::vector<std::string> parts;
  for (char c : word) parts.emplace_back(1, c);
  auto rank_of = [&](size_t i) {
    size_t rank = SIZE_MAX;  // the last of equal merges counts
    for (size_t m = 0; m < model.merges.size(); ++m)
      if (model.merges[m] == std::pair(parts[i], parts[i + 1])) rank = m;
    return rank;
  };
  while (true) {
    size_t best = SIZE_MAX, place = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i)
      if (rank_of(i) < best) best = rank_of(place = i);
    if (best == SIZE_MAX) return parts;
    parts[place] += parts[place + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
}

TEST(Bpe, EqualsTheDefinitionForShortAndLongWords) {
  std::mt19937 random(1);
  for (int seed = 0; seed < test_support::num_trials(20, 3'000); ++seed) {
    auto model = random_model(static_cast<uint32_t>(seed));
    Bpe bpe(model);
    for (size_t length : {1, 2, 3, 8, 23, 24, 25, 26, 40, 90}) {
      std::string word;
      for (size_t i = 0; i < length; ++i) word += "abcd"[random() % 4];
      std::vector<int32_t> ids;
      bpe.encode(word, ids);
      std::vector<std::string> parts;
      for (int32_t id : ids) parts.push_back(model.tokens[static_cast<size_t>(id)]);
      ASSERT_EQ(parts, reference_merge(model, word)) << word << ", seed " << seed;
    }
  }
}

TEST(Bpe, AMillionByteWordIsNotQuadratic) {
  auto model = random_model(3);
  Bpe bpe(model);
  std::mt19937 random(2);
  std::string word;
  for (int i = 0; i < 1'000'000; ++i) word += "abcd"[random() % 4];
  std::vector<int32_t> ids;
  auto start = std::chrono::steady_clock::now();
  bpe.encode(word, ids);
  // n log n takes under a second; n squared would take hours.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
  std::string together;
  for (int32_t id : ids) together += model.tokens[static_cast<size_t>(id)];
  EXPECT_EQ(together, word);
}

}  // namespace
}  // namespace deepseek_train::text
