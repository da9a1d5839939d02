#include "deepseek_train/data/prepare.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/sha256.h"
#include "deepseek_train/data/token_store.h"

namespace deepseek_train::data {
namespace {

using nlohmann::json;

void append_tokens(Document& document, const std::vector<int32_t>& tokens, bool loss,
                   const std::string& place) {
  if (tokens.empty()) return;
  const auto begin = static_cast<int64_t>(document.tokens.size());
  for (int32_t token : tokens) {
    DST_CHECK(token >= 0, place, ": the tokenizer gave the token id ", token);
    document.tokens.push_back(static_cast<uint32_t>(token));
  }
  if (!loss) return;
  const auto end = static_cast<int64_t>(document.tokens.size());
  if (!document.loss_spans.empty() && document.loss_spans.back().end == begin)
    document.loss_spans.back().end = end;
  else
    document.loss_spans.push_back({begin, end});
}

json describe_sources(Env& env, const SourceOptions& sources) {
  json files = json::array();
  for (const std::string& path : sources.paths) {
    auto file = env.open(path);
    Sha256 hash;
    hash.update(file->bytes());
    files.push_back(
        {{"path", path}, {"bytes", file->bytes().size()}, {"sha256", hash.finish_hex()}});
  }
  return files;
}

template <typename T>
json json_or_null(const std::optional<T>& value) {
  return value ? json(*value) : json();
}

// Without a time and in the order of json's sorted keys, so that equal input gives equal bytes.
std::string provenance_of(json files, const SourceOptions& sources, const PrepareOptions& options,
                          const PrepareResult& result) {
  json provenance = {{"sources", std::move(files)},
                     {"prompt_template", sources.prompt_template},
                     {"answer_template", sources.answer_template},
                     {"bos_id", json_or_null(options.bos_id)},
                     {"eos_id", json_or_null(options.eos_id)},
                     {"max_length", options.max_length},
                     {"documents", result.documents},
                     {"tokens", result.tokens},
                     {"loss_tokens", result.loss_tokens},
                     {"truncated", result.truncated},
                     {"extra", options.provenance}};
  // A path may be any bytes; JSON may not.
  return provenance.dump(-1, ' ', false, json::error_handler_t::replace);
}

void check_learns(const Document& document, const TextRecord& record, bool cut,
                  int64_t max_length) {
  if (num_loss_tokens(document) > 0) return;
  throw InvalidArgument(
      cut ? concat(record.place, ": cut to max_length ", max_length,
                   " tokens, nothing of the answer is left; raise max_length or shorten the prompt")
          : concat(record.place, ": no token is left to predict; set eos_id or remove the record"));
}

}  // namespace

bool truncate_document(Document& document, int64_t max_length) {
  if (max_length == 0 || static_cast<int64_t>(document.tokens.size()) <= max_length) return false;
  document.tokens.resize(static_cast<size_t>(max_length));
  auto& spans = document.loss_spans;
  while (!spans.empty() && spans.back().begin >= max_length) spans.pop_back();
  if (!spans.empty()) spans.back().end = std::min(spans.back().end, max_length);
  return true;
}

Document make_document(const TextRecord& record, const TokenizeFn& tokenize,
                       const PrepareOptions& options) {
  Document document;
  if (options.bos_id) append_tokens(document, {*options.bos_id}, false, record.place);
  for (const Segment& segment : record.segments)
    append_tokens(document, tokenize(segment.text), segment.loss, record.place);
  const bool ends_by_itself = options.eos_id && !document.tokens.empty() &&
                              document.tokens.back() == static_cast<uint32_t>(*options.eos_id);
  if (options.eos_id && record.segments.back().loss && !ends_by_itself)
    append_tokens(document, {*options.eos_id}, true, record.place);
  return document;
}

PrepareResult prepare(Env& env, const SourceOptions& sources, const TokenizeFn& tokenize,
                      const PrepareOptions& options, const std::string& output_path) {
  DST_CHECK(options.max_length >= 0, "max_length is ", options.max_length,
            ", wanted 0 (no limit) or more");
  TokenStoreWriter writer(env, output_path, options.tokenizer_sha256, "{}");
  json files = describe_sources(env, sources);
  PrepareResult result;
  for_each_record(env, sources, [&](const TextRecord& record) {
    Document document = make_document(record, tokenize, options);
    const bool cut = truncate_document(document, options.max_length);
    check_learns(document, record, cut, options.max_length);
    writer.append(document);
    result.truncated += cut;
    result.loss_tokens += num_loss_tokens(document);
  });
  DST_CHECK(writer.size() > 0, "the sources ", sources.paths, " hold no record");
  result.documents = writer.size();
  result.tokens = writer.num_tokens();
  writer.set_provenance(provenance_of(std::move(files), sources, options, result));
  writer.commit();
  return result;
}

}  // namespace deepseek_train::data
