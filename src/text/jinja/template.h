// Jinja templates, as far as real chat templates use the language: set, for, if, macro, namespace,
// filters, tests, methods, slices, white-space control. What is not supported is refused by its
// name and line, never rendered approximately. Reference: Jinja 3.1 as transformers sets it up.
#pragma once

#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/text/jinja/context.h"
#include "src/text/jinja/nodes.h"

namespace deepseek_train::text::jinja {

using Globals = std::vector<std::pair<std::string, Value>>;

// Immutable and thread-safe.
class Template {
 public:
  // Throws InvalidArgument with the line.
  explicit Template(std::string_view source);

  // Throws InvalidArgument with the line: for what the template itself refuses (raise_exception)
  // and for what it asks of values that cannot do it.
  Rendering render(const Globals& globals) const;

 private:
  Block block_;
};

// What transformers gives templates beside the conversation: raise_exception, namespace, range,
// dict; strftime_now only if a time is given, so that a rendering does not depend on the clock.
Globals standard_globals(std::optional<std::time_t> now);

}  // namespace deepseek_train::text::jinja
