// The state of one rendering: names in their scopes, and what was written so far.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "src/text/jinja/value.h"

namespace deepseek_train::text::jinja {

struct ByteRange {
  size_t begin = 0;
  size_t end = 0;
};

// What a template wrote.
struct Rendering {
  MarkedText text;
  // What was written while a loop stood at a message of the conversation.
  struct Turn {
    ByteRange range;
    int32_t message = 0;
  };
  std::vector<Turn> turns;
  // What {% generation %} blocks wrote: where a template says itself what the model answers.
  std::vector<ByteRange> generations;
};

// One thread's.
class Context {
 public:
  explicit Context(std::span<const std::pair<std::string, Value>> globals);

  // Undefined for a name that no scope has.
  Value find(const std::string& name) const;
  // Sets in the innermost scope, as Jinja does: a loop's body cannot change what is around it.
  void set(const std::string& name, Value value);

  // A scope as long as the object lives.
  class Scope {
   public:
    explicit Scope(Context& context) : context_(context) { context_.scopes_.emplace_back(); }
    ~Scope() { context_.scopes_.pop_back(); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Context& context_;
  };

  // Where print statements write to. A macro or {% set %} block has a rendering of its own.
  Rendering& output() { return *output_; }
  class Capture {
   public:
    explicit Capture(Context& context) : context_(context), outer_(context.output_) {
      context_.output_ = &rendering_;
    }
    ~Capture() { context_.output_ = outer_; }
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;
    MarkedText take() { return std::move(rendering_.text); }

   private:
    Context& context_;
    Rendering* outer_;
    Rendering rendering_;
  };
  // The names as a macro sees them: those outside of all loops and other macros.
  class MacroScopes {
   public:
    explicit MacroScopes(Context& context, int line);
    ~MacroScopes();
    MacroScopes(const MacroScopes&) = delete;
    MacroScopes& operator=(const MacroScopes&) = delete;

   private:
    Context& context_;
    std::vector<std::map<std::string, Value>> hidden_;
  };

  // Fails when a template does more than any chat needs: it would not end, or fill the memory.
  void count_step(int line);

 private:
  std::vector<std::map<std::string, Value>> scopes_;
  Rendering rendering_;
  Rendering* output_ = &rendering_;
  int64_t steps_ = 0;
  int macro_depth_ = 0;
};

}  // namespace deepseek_train::text::jinja
