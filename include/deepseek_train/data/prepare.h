// From text files to a token store.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "deepseek_train/core/env.h"
#include "deepseek_train/data/dataset.h"
#include "deepseek_train/data/sources.h"

namespace deepseek_train::data {

using TokenizeFn = std::function<std::vector<int32_t>(std::string_view)>;

struct PrepareOptions {
  // Put before every document, without loss.
  std::optional<int32_t> bos_id;
  // Put after every document whose last segment has loss, with loss: the model learns to stop. A
  // document that ends with it already (a chat template wrote it) gets no second one.
  std::optional<int32_t> eos_id;
  // Tokens; the end of a longer document is cut off. 0: no limit.
  int64_t max_length = 0;
  std::string tokenizer_sha256;
  // Further entries of the provenance, under "extra".
  std::map<std::string, std::string> provenance;
};

struct PrepareResult {
  int64_t documents = 0;
  int64_t tokens = 0;
  int64_t loss_tokens = 0;
  int64_t truncated = 0;  // documents cut to max_length
};

// The record's tokens and the spans that are trained on, of any length: the segments are tokenized
// one by one, with bos and eos as the options say.
Document make_document(const TextRecord& record, const TokenizeFn& tokenize,
                       const PrepareOptions& options);
// Cuts the document's end off; `max_length` 0: nothing. Whether there was anything to cut.
bool truncate_document(Document& document, int64_t max_length);

// Tokenizes every record and writes the token store `output_path` in one step, nothing on an error.
// Segments are tokenized one by one and joined: the boundary between prompt and answer is exact,
// and equals what generation sees when it continues the prompt's tokens. (A tokenizer run over the
// whole text could merge across the boundary.) The provenance holds the inputs' paths, sizes and
// SHA-256, the templates and the counts, and no time: the same input gives the same bytes.
// InvalidArgument also if cutting leaves a document without loss. Memory: see TokenStoreWriter.
PrepareResult prepare(Env& env, const SourceOptions& sources, const TokenizeFn& tokenize,
                      const PrepareOptions& options, const std::string& output_path);

}  // namespace deepseek_train::data
