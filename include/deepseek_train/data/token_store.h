// Tokenized documents in one HDF5 file, written once and read by every rank.
//
// Layout (format_version 1), readable by any HDF5 tool:
//   /tokens      u32 [t]     all documents one after another, chunked
//   /offsets     u64 [n+1]   document i is tokens[offsets[i], offsets[i+1]), chunked
//   /loss_spans  u64 [m, 3]  document, begin, end: half-open token positions inside the document,
//   in rising order, chunked attributes of the root: format_version (integer), tokenizer_sha256 and
//   provenance (JSON), fixed-length strings
// Little-endian, no filters, no time stamps: the same documents give the same bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "deepseek_train/core/env.h"
#include "deepseek_train/data/dataset.h"

namespace deepseek_train::data {

inline constexpr int kTokenStoreFormatVersion = 1;

// Collects documents in memory, 4 bytes a token (8 while commit() encodes them), then writes the
// file in one step: without commit() nothing is ever seen under `path`. HDF5 itself touches no
// disk, every byte goes through the Env. One thread at a time.
class TokenStoreWriter {
 public:
  // `provenance_json`: where the documents come from, for an auditor. InvalidArgument if it is not
  // JSON or the hash is empty. Borrows the Env.
  TokenStoreWriter(Env& env, std::string path, std::string tokenizer_sha256,
                   std::string provenance_json);

  // InvalidArgument if the document is empty or its spans are out of order or out of range.
  void append(const Document& document);
  int64_t size() const { return static_cast<int64_t>(offsets_.size()) - 1; }
  int64_t num_tokens() const { return static_cast<int64_t>(tokens_.size()); }
  // Replaces the provenance, for facts that are known only after the last document.
  void set_provenance(std::string provenance_json);
  // Writes, syncs and renames into place. InvalidArgument if there is no document or after an
  // earlier commit(); Unavailable on a full disk.
  void commit();

 private:
  Env& env_;
  std::string path_;
  std::string tokenizer_sha256_;
  std::string provenance_;
  bool committed_ = false;
  std::vector<uint32_t> tokens_;
  std::vector<uint64_t> offsets_ = {0};
  std::vector<uint64_t> loss_spans_;  // triples
};

// A store opened for reading. The constructor lets HDF5 parse the file once, checks everything but
// the token values, and notes where the chunks lie; from then on documents are copied straight out
// of the mapped file, without HDF5 and its lock, from any number of threads, before or after a
// fork. Memory: 8 bytes a document and 24 a span.
class TokenStore final : public Dataset {
 public:
  // NotFound if there is no such file; DataCorruption, naming it, if it is cut, altered or
  // something else; InvalidArgument if it is of a later format version.
  TokenStore(Env& env, const std::string& path);
  ~TokenStore() override;
  TokenStore(TokenStore&&) noexcept;
  TokenStore& operator=(TokenStore&&) noexcept;

  int64_t size() const override;
  Document document(int64_t i) const override;

  int64_t num_tokens() const;
  // Tokens with loss in all documents, as num_loss_tokens(Document) counts them.
  int64_t num_loss_tokens() const;
  // Tokens of document i, without reading them.
  int64_t length(int64_t i) const;
  const std::string& path() const;
  const std::string& tokenizer_sha256() const;
  // JSON, as the writer got it.
  const std::string& provenance() const;
  // InvalidArgument unless the store was made with the tokenizer of this hash.
  void check_tokenizer(std::string_view sha256) const;

 private:
  struct Contents;
  std::unique_ptr<const Contents> contents_;
};

}  // namespace deepseek_train::data
