#include "src/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "deepseek_train/core/error.h"

namespace deepseek_train::text {
namespace {

std::string error_text(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

struct CodeDeleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

int match(const pcre2_code* code, std::string_view text, size_t start, pcre2_match_data* data) {
  auto run = [&](uint32_t options) {
    return pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), start, options,
                       data, nullptr);
  };
  int result = run(PCRE2_NO_UTF_CHECK);
  // The compiled matcher has a small fixed stack; the interpreter takes the heap.
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = run(PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT);
  return result;
}

}  // namespace

struct RegexScratch::Data {
  std::unique_ptr<pcre2_match_data, MatchDataDeleter> match_data{
      pcre2_match_data_create(1, nullptr)};
};

RegexScratch::RegexScratch() : data_(std::make_unique<Data>()) {
  DST_CHECK_AS(Unavailable, data_->match_data != nullptr,
               "no memory for a regular expression's search");
}
RegexScratch::~RegexScratch() = default;

struct Regex::Code {
  std::unique_ptr<pcre2_code, CodeDeleter> code;
};

Regex::Regex(std::string_view pattern) : pattern_(pattern), code_(std::make_unique<Code>()) {
  auto translated = to_pcre2_syntax(pattern);
  int error = 0;
  size_t place = 0;
  code_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()),
                                  translated.size(), PCRE2_UTF | PCRE2_UCP, &error, &place,
                                  nullptr));
  DST_CHECK(code_->code != nullptr, "the tokenizer's pattern \"", pattern_,
            "\" is not a valid regular expression: ", error_text(error), " at byte ", place,
            " of \"", translated, "\"");
  // Where there is no just-in-time compiler the interpreter does the same, slower.
  pcre2_jit_compile(code_->code.get(), PCRE2_JIT_COMPLETE);
}
Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

void Regex::find_all(std::string_view text, RegexScratch& scratch,
                     std::vector<Span>& matches) const {
  matches.clear();
  auto* data = scratch.data_->match_data.get();
  size_t start = 0;
  while (start < text.size()) {
    int result = match(code_->code.get(), text, start, data);
    if (result == PCRE2_ERROR_NOMATCH) return;
    DST_CHECK_AS(Internal, result >= 0, "the search for the tokenizer's pattern \"", pattern_,
                 "\" failed: ", error_text(result));
    const size_t* bounds = pcre2_get_ovector_pointer(data);
    DST_CHECK(bounds[1] > bounds[0], "the tokenizer's pattern \"", pattern_,
              "\" matches the empty string, which splits nothing");
    matches.push_back({bounds[0], bounds[1]});
    start = bounds[1];
  }
}

}  // namespace deepseek_train::text
