#include "deepseek_train/data/token_store.h"

#include <algorithm>

#include "deepseek_train/core/error.h"
#include "src/data/store_format.h"

namespace deepseek_train::data {

struct TokenStore::Contents {
  std::string path;
  std::unique_ptr<ReadableFile> file;
  StoreIndex index;
  int64_t num_loss_tokens = 0;
};

namespace {

// decode_store, with the file's name in the error.
StoreIndex decode_named(std::span<const std::byte> bytes, const std::string& path) {
  try {
    return decode_store(bytes);
  } catch (const DataCorruption& error) {
    throw DataCorruption(
        concat(path, " is not a sound token store: ", error.what(), "; run prepare again"));
  } catch (const InvalidArgument& error) {
    throw InvalidArgument(concat(path, ": ", error.what()));
  }
}

int64_t count_loss_tokens(const StoreIndex& index) {
  uint64_t count = 0;
  for (size_t i = 0; i < index.loss_spans.size(); i += 3)
    count += index.loss_spans[i + 2] - std::max<uint64_t>(index.loss_spans[i + 1], 1);
  return static_cast<int64_t>(count);
}

// The document's rows of /loss_spans, found by bisection.
std::vector<LossSpan> spans_of(const StoreIndex& index, uint64_t document) {
  size_t low = 0, high = index.loss_spans.size() / 3;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (index.loss_spans[3 * middle] < document)
      low = middle + 1;
    else
      high = middle;
  }
  std::vector<LossSpan> spans;
  for (size_t i = 3 * low; i < index.loss_spans.size() && index.loss_spans[i] == document; i += 3)
    spans.push_back({static_cast<int64_t>(index.loss_spans[i + 1]),
                     static_cast<int64_t>(index.loss_spans[i + 2])});
  return spans;
}

}  // namespace

TokenStore::TokenStore(Env& env, const std::string& path) {
  auto contents = std::make_unique<Contents>();
  contents->path = path;
  contents->file = env.open(path);
  contents->index = decode_named(contents->file->bytes(), path);
  contents->num_loss_tokens = count_loss_tokens(contents->index);
  contents_ = std::move(contents);
}

TokenStore::~TokenStore() = default;
TokenStore::TokenStore(TokenStore&&) noexcept = default;
TokenStore& TokenStore::operator=(TokenStore&&) noexcept = default;

int64_t TokenStore::size() const {
  return static_cast<int64_t>(contents_->index.offsets.size()) - 1;
}

int64_t TokenStore::length(int64_t i) const {
  DST_CHECK(0 <= i && i < size(), "document ", i, " asked for, ", path(), " has ", size());
  const auto& offsets = contents_->index.offsets;
  return static_cast<int64_t>(offsets[static_cast<size_t>(i) + 1] -
                              offsets[static_cast<size_t>(i)]);
}

Document TokenStore::document(int64_t i) const {
  const auto count = static_cast<uint64_t>(length(i));
  const StoreIndex& index = contents_->index;
  const uint64_t begin = index.offsets[static_cast<size_t>(i)];
  Document document{std::vector<uint32_t>(count), spans_of(index, static_cast<uint64_t>(i))};
  copy_rows(index.tokens, contents_->file->bytes(), begin, begin + count, document.tokens.data());
  return document;
}

int64_t TokenStore::num_tokens() const {
  return static_cast<int64_t>(contents_->index.tokens.num_rows);
}
int64_t TokenStore::num_loss_tokens() const { return contents_->num_loss_tokens; }
const std::string& TokenStore::path() const { return contents_->path; }
const std::string& TokenStore::tokenizer_sha256() const {
  return contents_->index.attributes.tokenizer_sha256;
}
const std::string& TokenStore::provenance() const { return contents_->index.attributes.provenance; }

void TokenStore::check_tokenizer(std::string_view sha256) const {
  DST_CHECK(sha256 == tokenizer_sha256(), path(), " was made with the tokenizer ",
            tokenizer_sha256(), ", the model's is ", sha256,
            "; run prepare again with the model's tokenizer");
}

}  // namespace deepseek_train::data
