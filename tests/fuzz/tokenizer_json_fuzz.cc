// Any bytes as tokenizer.json: a tokenizer that works, or an error of ours. Then the rest of the
// input is text for it. Input: tokenizer.json, a zero byte, the text.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "deepseek_train/core/error.h"
#include "deepseek_train/text/tokenizer.h"

namespace {

using deepseek_train::text::Tokenizer;

void expect(bool holds) {
  if (!holds) __builtin_trap();
}

// A tokenizer that was accepted keeps its promises for any text.
void use(const Tokenizer& tokenizer, std::string_view text) {
  for (int32_t id : tokenizer.encode(text)) expect(id >= 0 && id < tokenizer.vocab_size());
  tokenizer.decode(tokenizer.encode(text, /*parse_special=*/false));
  const auto json = tokenizer.to_json();
  expect(Tokenizer::from_json(json).to_json() == json);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = input.find('\0');
  try {
    const auto tokenizer = Tokenizer::from_json(input.substr(0, end));
    use(tokenizer, end == input.npos ? "the 123 \n" : input.substr(end + 1));
  } catch (const deepseek_train::Error&) {
    // Refused by name.
  }
  return 0;
}
