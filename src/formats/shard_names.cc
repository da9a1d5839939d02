#include "src/formats/shard_names.h"

#include <algorithm>

#include "deepseek_train/core/strings.h"

namespace deepseek_train::formats {
namespace {

constexpr std::string_view kSuffix = ".safetensors";

std::string five_digits(size_t number) {
  auto text = concat(number);
  return text.size() < 5 ? std::string(5 - text.size(), '0') + text : text;
}

// Takes the digits off the front of `text`; false if there is none.
bool skip_digits(std::string_view& text) {
  const auto end =
      std::find_if(text.begin(), text.end(), [](char c) { return c < '0' || c > '9'; });
  const auto count = static_cast<size_t>(end - text.begin());
  text.remove_prefix(count);
  return count > 0;
}

bool skip(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

}  // namespace

std::string single_file_name(std::string_view stem) { return concat(stem, kSuffix); }

std::string index_file_name(std::string_view stem) { return concat(stem, kSuffix, ".index.json"); }

std::string shard_file_name(std::string_view stem, size_t index, size_t count) {
  return concat(stem, "-", five_digits(index + 1), "-of-", five_digits(count), kSuffix);
}

bool is_shard_file_name(std::string_view stem, std::string_view name) {
  return skip(name, stem) && skip(name, "-") && skip_digits(name) && skip(name, "-of-") &&
         skip_digits(name) && name == kSuffix;
}

}  // namespace deepseek_train::formats
