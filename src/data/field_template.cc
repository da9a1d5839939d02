#include "src/data/field_template.h"

#include "deepseek_train/core/error.h"

namespace deepseek_train::data {

void throw_missing_field(const std::string& place, const std::string& name,
                         const std::vector<std::string>& fields) {
  const std::string nearest = nearest_word(name, fields);
  throw InvalidArgument(concat(
      place, ": no field \"", name, "\"; ",
      nearest.empty() ? concat("it has ", fields) : concat("did you mean \"", nearest, "\"?")));
}

FieldTemplate::FieldTemplate(std::string_view text) {
  std::string literal;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c != '{' && c != '}') {
      literal += c;
    } else if (i + 1 < text.size() && text[i + 1] == c) {
      literal += c;
      ++i;
    } else {
      const size_t end = text.find('}', i);
      DST_CHECK(c == '{' && end != std::string_view::npos && end > i + 1 &&
                    text.substr(i + 1, end - i - 1).find('{') == std::string_view::npos,
                "template \"", text, "\": the brace at character ", i + 1,
                " begins or ends no {field}; write {{ or }} for a brace in the text");
      parts_.push_back({std::move(literal), false});
      parts_.push_back({std::string(text.substr(i + 1, end - i - 1)), true});
      literal.clear();
      i = end;
    }
  }
  parts_.push_back({std::move(literal), false});
}

std::string FieldTemplate::render(const FieldLookup& lookup) const {
  std::string text;
  for (const Part& part : parts_) text += part.is_field ? lookup(part.text) : part.text;
  return text;
}

}  // namespace deepseek_train::data
