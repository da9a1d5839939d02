#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"
#include "deepseek_train/data/token_store.h"
#include "src/data/store_format.h"

namespace deepseek_train::data {

TokenStoreWriter::TokenStoreWriter(Env& env, std::string path, std::string tokenizer_sha256,
                                   std::string provenance_json)
    : env_(env), path_(std::move(path)), tokenizer_sha256_(std::move(tokenizer_sha256)) {
  DST_CHECK(!tokenizer_sha256_.empty(), path_,
            ": a token store needs the SHA-256 of its tokenizer");
  set_provenance(std::move(provenance_json));
}

void TokenStoreWriter::set_provenance(std::string provenance_json) {
  DST_CHECK(nlohmann::json::accept(provenance_json), path_,
            ": the provenance is not JSON: ", provenance_json.substr(0, 80));
  provenance_ = std::move(provenance_json);
}

void TokenStoreWriter::append(const Document& document) {
  check_document(document);
  const uint64_t number = offsets_.size() - 1;
  tokens_.insert(tokens_.end(), document.tokens.begin(), document.tokens.end());
  offsets_.push_back(tokens_.size());
  for (const LossSpan& span : document.loss_spans)
    loss_spans_.insert(loss_spans_.end(), {number, static_cast<uint64_t>(span.begin),
                                           static_cast<uint64_t>(span.end)});
}

void TokenStoreWriter::commit() {
  DST_CHECK(!committed_, path_, ": commit() was called before");
  DST_CHECK(size() > 0, path_, ": a token store needs a document");
  auto bytes = encode_store({tokenizer_sha256_, provenance_}, tokens_, offsets_, loss_spans_);
  auto file = env_.create(path_);
  file->append(bytes);
  file->commit();
  committed_ = true;
}

}  // namespace deepseek_train::data
