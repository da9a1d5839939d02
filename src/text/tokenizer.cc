#include "deepseek_train/text/tokenizer.h"

#include <unordered_map>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/sha256.h"
#include "src/text/bpe_vocabulary.h"
#include "src/text/byte_alphabet.h"
#include "src/text/encoder.h"
#include "src/text/tokenizer_json.h"
#include "src/text/tokenizer_model.h"

namespace deepseek_train::text {
class Tokenizer::Impl {
 public:
  explicit Impl(TokenizerModel checked)
      : model(std::move(checked)), pipeline(model), added_(model.tokens.size()) {
    for (size_t i = 0; i < model.tokens.size(); ++i)
      if (!model.tokens[i].empty()) ids.emplace(model.tokens[i], static_cast<int32_t>(i));
    for (const auto& token : model.added_tokens)
      added_[static_cast<size_t>(token.id)] = token.special ? 2 : 1;
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  size_t index_of(int32_t id) const {
    DST_CHECK(id >= 0 && static_cast<size_t>(id) < model.tokens.size(), "token id ", id,
              " is outside the vocabulary of ", model.tokens.size(),
              " tokens; was it made by another tokenizer?");
    return static_cast<size_t>(id);
  }
  bool is_added(size_t index) const { return added_[index] > 0; }
  bool is_special(size_t index) const { return added_[index] == 2; }

  const TokenizerModel model;
  const Pipeline pipeline;
  std::unordered_map<std::string_view, int32_t> ids;

 private:
  std::vector<uint8_t> added_;  // 0 not an added token, 1 added, 2 special
};

Tokenizer::Tokenizer(TokenizerModel model)
    : impl_(std::make_shared<const Impl>(std::move(model))) {}

Tokenizer Tokenizer::from_json(std::string_view tokenizer_json,
                               std::string_view tokenizer_config_json) {
  auto model = parse_tokenizer_json(tokenizer_json);
  if (!tokenizer_config_json.empty()) apply_tokenizer_config(tokenizer_config_json, model);
  return Tokenizer(std::move(model));
}

Tokenizer Tokenizer::from_folder(Env& env, const std::string& folder) {
  return from_file(env, join_path(folder, "tokenizer.json"));
}

namespace {

TokenizerModel read_model(Env& env, std::string& path) {
  const std::string folder = path.substr(0, path.find_last_of('/') + 1);
  auto model = parse_tokenizer_json(read_text(env, path));
  path = folder + "tokenizer_config.json";
  if (env.exists(path)) apply_tokenizer_config(read_text(env, path), model);
  path = folder + "chat_template.jinja";
  if (env.exists(path)) model.chat_template = read_text(env, path);
  return model;
}

}  // namespace

Tokenizer Tokenizer::from_file(Env& env, const std::string& file, const std::string& pre) {
  std::string path = file;  // of what is being read
  try {
    const bool is_tiktoken = path.ends_with(".tiktoken");
    DST_CHECK(is_tiktoken != pre.empty(),
              is_tiktoken ? "a .tiktoken file does not say how text is split: name it (qwen2, "
                            "llama-bpe, ...)"
                          : "this file says itself how text is split; do not name it");
    if (is_tiktoken) return from_vocabulary(parse_tiktoken(read_text(env, path), pre));
    return Tokenizer(read_model(env, path));
  } catch (const DataCorruption& error) {
    throw DataCorruption(concat(path, ": ", error.what()));
  } catch (const InvalidArgument& error) {
    throw InvalidArgument(concat(path, ": ", error.what()));
  }
}

Tokenizer Tokenizer::from_vocabulary(BpeVocabulary vocabulary) {
  return Tokenizer(model_of_vocabulary(std::move(vocabulary)));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool parse_special) const {
  return Encoder(impl_->pipeline, parse_special).encode(text);
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string text;
  for (int32_t id : ids) {
    size_t index = impl_->index_of(id);
    if (skip_special && impl_->is_special(index)) continue;
    const auto& token = impl_->model.tokens[index];
    auto bytes = impl_->is_added(index) ? std::nullopt : bytes_of_token(token);
    text += bytes ? *bytes : token;
  }
  return text;
}

const std::string& Tokenizer::token(int32_t id) const {
  return impl_->model.tokens[impl_->index_of(id)];
}

std::optional<int32_t> Tokenizer::id_of(std::string_view token) const {
  auto found = impl_->ids.find(token);
  return found == impl_->ids.end() ? std::nullopt : std::optional(found->second);
}

int64_t Tokenizer::vocab_size() const { return static_cast<int64_t>(impl_->model.tokens.size()); }
std::optional<int32_t> Tokenizer::bos_id() const { return impl_->model.bos_id; }
std::optional<int32_t> Tokenizer::eos_id() const { return impl_->model.eos_id; }
std::optional<int32_t> Tokenizer::pad_id() const { return impl_->model.pad_id; }
bool Tokenizer::add_bos() const { return impl_->model.add_bos; }
bool Tokenizer::is_special(int32_t id) const { return impl_->is_special(impl_->index_of(id)); }
const std::string& Tokenizer::chat_template() const { return impl_->model.chat_template; }
std::string Tokenizer::to_json() const { return format_tokenizer_json(impl_->model); }
std::string Tokenizer::config_json() const { return format_tokenizer_config(impl_->model); }
std::string Tokenizer::sha256() const { return sha256_hex(to_json()); }

}  // namespace deepseek_train::text
