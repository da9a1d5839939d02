#include "deepseek_train/data/batch.h"

#include <random>

#include "tests/data/support.h"
#include "tests/support/trials.h"

namespace deepseek_train::data {
namespace {

constexpr int64_t kNoLoss = kIgnoreIndex;

TEST(Collate, PadsToTheLongestRowAndKeepsLabelsInPlace) {
  std::vector<Document> documents = {
      {{1, 2, 3, 4}, {{1, 2}, {3, 4}}}, {{5, 6}, {{0, 2}}}, {{7}, {}}};
  std::vector<int64_t> samples = {30, 10, 20};
  Batch batch = collate(documents, samples, 100, 9);
  EXPECT_EQ(batch.rows, 3);
  EXPECT_EQ(batch.columns, 4);
  EXPECT_EQ(batch.input_ids, (std::vector<int64_t>{1, 2, 3, 4, 5, 6, 9, 9, 7, 9, 9, 9}));
  EXPECT_EQ(batch.labels, (std::vector<int64_t>{kNoLoss, 2, kNoLoss, 4,  //
                                                5, 6, kNoLoss, kNoLoss,  //
                                                kNoLoss, kNoLoss, kNoLoss, kNoLoss}));
  EXPECT_EQ(batch.lengths, (std::vector<int64_t>{4, 2, 1}));
  EXPECT_EQ(batch.sample_indices, samples);
  EXPECT_EQ(batch.num_loss_tokens(), 3);  // the 5 has no token before it to be predicted from
}

TEST(Collate, CutsAtMaxLength) {
  std::vector<Document> documents = {{{1, 2, 3, 4, 5}, {{1, 4}, {4, 5}}}};
  std::vector<int64_t> samples = {0};
  Batch batch = collate(documents, samples, 3, 0);
  EXPECT_EQ(batch.input_ids, (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(batch.labels, (std::vector<int64_t>{kNoLoss, 2, 3}));
  EXPECT_EQ(batch.lengths, (std::vector<int64_t>{3}));
}

TEST(Collate, TokenIdsBeyondInt32AreKept) {
  std::vector<Document> documents = {{{4294967295u, 1}, {{0, 2}}}};
  std::vector<int64_t> samples = {0};
  EXPECT_EQ(collate(documents, samples, 8, 0).input_ids[0], 4294967295);
}

TEST(Collate, RefusesWhatIsNoBatch) {
  std::vector<int64_t> none, one = {0};
  expect_error<InvalidArgument>([&] { collate({}, none, 8, 0); }, {"needs a document"});
  std::vector<Document> documents = {{{1}, {}}};
  expect_error<InvalidArgument>([&] { collate(documents, none, 8, 0); }, {"1 documents with 0"});
  expect_error<InvalidArgument>([&] { collate(documents, one, 0, 0); }, {"max_length is 0"});
}

TEST(Document, RefusesSpansOutOfOrderOrRange) {
  auto refuse = [](std::vector<LossSpan> spans) {
    expect_error<InvalidArgument>(
        [&] {
          check_document({{1, 2, 3}, spans});
        },
        {"loss span", "3 tokens"});
  };
  refuse({{0, 4}});
  refuse({{-1, 2}});
  refuse({{2, 2}});
  refuse({{2, 1}});
  refuse({{1, 3}, {0, 1}});
  refuse({{0, 2}, {1, 3}});
  expect_error<InvalidArgument>([] { check_document({}); }, {"no token"});
  EXPECT_NO_THROW(check_document({{1, 2, 3}, {{0, 1}, {1, 3}}}));
}

TEST(Document, LossTokensAreTheSameAsTheBatchs) {
  std::mt19937 random(2);
  for (int trial = 0; trial < test_support::num_trials(200, 100'000); ++trial) {
    Document document;
    document.tokens.assign(1 + random() % 20, 7);
    const auto length = static_cast<int64_t>(document.tokens.size());
    for (int64_t at = random() % 3; at < length;) {
      int64_t end = std::min<int64_t>(length, at + 1 + random() % 5);
      document.loss_spans.push_back({at, end});
      at = end + random() % 4;
    }
    std::vector<int64_t> sample = {0};
    EXPECT_EQ(collate({&document, 1}, sample, 100, 0).num_loss_tokens(), num_loss_tokens(document));
  }
}

TEST(MemoryDataset, RefusesADocumentThatIsNotThere) {
  MemoryDataset dataset(make_documents(3));
  EXPECT_EQ(dataset.size(), 3);
  expect_error<InvalidArgument>([&] { dataset.document(3); }, {"document 3", "has 3"});
  expect_error<InvalidArgument>([&] { dataset.document(-1); }, {"document -1"});
}

}  // namespace
}  // namespace deepseek_train::data
