#include "src/text/jinja/context.h"

namespace deepseek_train::text::jinja {
namespace {

constexpr int64_t kMaxSteps = 20'000'000;
constexpr size_t kMaxBytes = size_t{256} << 20;
constexpr int kMaxMacroDepth = 64;

}  // namespace

Context::Context(std::span<const std::pair<std::string, Value>> globals) : scopes_(2) {
  for (const auto& [name, value] : globals) scopes_.front()[name] = value;
}

Value Context::find(const std::string& name) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
    if (auto found = scope->find(name); found != scope->end()) return found->second;
  return Value::undefined(name);
}

void Context::set(const std::string& name, Value value) { scopes_.back()[name] = std::move(value); }

Context::MacroScopes::MacroScopes(Context& context, int line) : context_(context) {
  if (++context_.macro_depth_ > kMaxMacroDepth) {
    --context_.macro_depth_;
    fail(line, "macros call one another more than ", kMaxMacroDepth, " deep");
  }
  auto& scopes = context_.scopes_;
  hidden_.assign(std::make_move_iterator(scopes.begin() + 2),
                 std::make_move_iterator(scopes.end()));
  scopes.resize(2);
  scopes.emplace_back();
}

Context::MacroScopes::~MacroScopes() {
  context_.scopes_.resize(2);
  for (auto& scope : hidden_) context_.scopes_.push_back(std::move(scope));
  --context_.macro_depth_;
}

void Context::count_step(int line) {
  if (++steps_ > kMaxSteps || output_->text.size() > kMaxBytes)
    fail(line, "the template runs on without end; it took ", steps_, " steps and wrote ",
         output_->text.size(), " bytes");
}

}  // namespace deepseek_train::text::jinja
