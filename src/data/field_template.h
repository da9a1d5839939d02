// Text with {field} placeholders.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace deepseek_train::data {

// The value of a field by name. Throws where there is none.
using FieldLookup = std::function<std::string(const std::string& name)>;

// Throws InvalidArgument: `place` has no such field; names the nearest of those it has, or all.
[[noreturn]] void throw_missing_field(const std::string& place, const std::string& name,
                                      const std::vector<std::string>& fields);

class FieldTemplate {
 public:
  // "{name}" is a placeholder, "{{" and "}}" are braces. InvalidArgument on a brace without its
  // partner.
  explicit FieldTemplate(std::string_view text);
  std::string render(const FieldLookup& lookup) const;

 private:
  struct Part {
    std::string text;  // literal text, or a field's name
    bool is_field;
  };
  std::vector<Part> parts_;
};

}  // namespace deepseek_train::data
