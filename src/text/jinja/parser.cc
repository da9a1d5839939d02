#include "src/text/jinja/parser.h"

#include <algorithm>

#include "src/text/jinja/expression_parser.h"

namespace deepseek_train::text::jinja {
namespace {

using Kind = Token::Kind;

constexpr int kMaxDepth = 100;

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)), expressions_(tokens_) {}

  Block parse() {
    Block block = parse_block({});
    return block;
  }

 private:
  using Names = std::initializer_list<std::string_view>;

  // Statements up to {% name of `ends`, of which the name is not yet read; for no ends, to the end.
  Block parse_block(Names ends) {
    if (++depth_ > kMaxDepth)
      fail(tokens_.line(), "statements nest more than ", kMaxDepth, " deep");
    const int begin_line = tokens_.line();
    Block block;
    while (!tokens_.at(Kind::kEnd)) {
      Token token = tokens_.next();
      if (token.kind == Kind::kText) {
        block.push_back(std::make_unique<Text>(token.line, token.text));
      } else if (token.kind == Kind::kBeginPrint) {
        block.push_back(parse_print(token.line));
      } else if (std::find(ends.begin(), ends.end(), tokens_.peek().text) != ends.end()) {
        --depth_;
        return block;
      } else {
        block.push_back(parse_statement(token.line));
      }
    }
    if (ends.size() > 0)
      fail(begin_line, "a block has no {% ", std::data(ends)[ends.size() - 1], " %}");
    --depth_;
    return block;
  }

  std::unique_ptr<Statement> parse_print(int line) {
    auto print = std::make_unique<Print>(line);
    print->value = expressions_.parse_tuple();
    tokens_.expect(Kind::kEndPrint);
    return print;
  }

  std::unique_ptr<Statement> parse_statement(int line) {
    const auto name = tokens_.expect_name();
    if (name == "set") return parse_set(line);
    if (name == "if") return parse_if(line);
    if (name == "for") return parse_for(line);
    if (name == "macro") return parse_macro(line);
    if (name == "generation") return parse_generation(line);
    if (name == "break" || name == "continue") {
      if (loops_ == 0) fail(line, "{% ", name, " %} stands outside of a loop");
      end_tag();
      return std::make_unique<Jump>(line, name == "break" ? Flow::kBreak : Flow::kContinue);
    }
    fail(line, "the statement \"", name,
         "\" is not supported here; supported: set, if, for, macro, generation, break, continue");
  }

  void end_tag() { tokens_.expect(Kind::kEndBlock); }
  void end_block(std::string_view name) {
    if (!tokens_.skip_name(name))
      fail(tokens_.line(), "found ", tokens_.describe(), ", wanted ", name);
    end_tag();
  }

  Target parse_target() {
    Target target;
    const bool parenthesis = tokens_.skip_operator("(");
    do {
      if (!target.names.empty() && !tokens_.at(Kind::kName)) break;  // a comma at the end
      target.names.push_back(tokens_.expect_name());
      if (tokens_.at_operator(",")) target.unpacks = true;
    } while (tokens_.skip_operator(","));
    if (parenthesis) tokens_.expect_operator(")");
    if (!target.unpacks && tokens_.skip_operator(".")) target.attribute = tokens_.expect_name();
    return target;
  }

  std::unique_ptr<Statement> parse_set(int line) {
    auto set = std::make_unique<Set>(line);
    set->target = parse_target();
    if (tokens_.skip_operator("=")) {
      set->value = expressions_.parse_tuple();
      end_tag();
      return set;
    }
    if (tokens_.at_operator("|")) fail(line, "a filter in a {% set %} block is not supported");
    end_tag();
    set->block = parse_block({"endset"});
    end_block("endset");
    return set;
  }

  std::unique_ptr<Statement> parse_if(int line) {
    auto node = std::make_unique<If>(line);
    while (true) {
      auto condition = expressions_.parse_tuple();
      end_tag();
      auto block = parse_block({"elif", "else", "endif"});
      node->branches.emplace_back(std::move(condition), std::move(block));
      if (!tokens_.skip_name("elif")) break;
    }
    if (tokens_.skip_name("else")) {
      end_tag();
      node->otherwise = parse_block({"endif"});
    }
    end_block("endif");
    return node;
  }

  std::unique_ptr<Statement> parse_for(int line) {
    auto node = std::make_unique<For>(line);
    node->target = parse_target();
    if (!node->target.attribute.empty()) fail(line, "a loop cannot set an attribute");
    if (!tokens_.skip_name("in")) fail(line, "found ", tokens_.describe(), ", wanted \"in\"");
    node->items = expressions_.parse(/*allow_if=*/false);
    if (tokens_.skip_name("if")) node->condition = expressions_.parse();
    if (tokens_.at_name("recursive")) fail(line, "recursive loops are not supported");
    end_tag();
    ++loops_;
    node->body = parse_block({"else", "endfor"});
    --loops_;
    if (tokens_.skip_name("else")) {
      end_tag();
      node->otherwise = parse_block({"endfor"});
    }
    end_block("endfor");
    return node;
  }

  std::unique_ptr<Statement> parse_macro(int line) {
    auto macro = std::make_unique<Macro>(line);
    macro->name = tokens_.expect_name();
    tokens_.expect_operator("(");
    while (!tokens_.at_operator(")")) {
      auto parameter = tokens_.expect_name();
      ExpressionPtr otherwise = tokens_.skip_operator("=") ? expressions_.parse() : nullptr;
      macro->parameters.emplace_back(std::move(parameter), std::move(otherwise));
      if (!tokens_.skip_operator(",")) break;
    }
    tokens_.expect_operator(")");
    end_tag();
    const int loops = std::exchange(loops_, 0);
    macro->body = parse_block({"endmacro"});
    loops_ = loops;
    end_block("endmacro");
    return macro;
  }

  std::unique_ptr<Statement> parse_generation(int line) {
    auto node = std::make_unique<Generation>(line);
    end_tag();
    node->body = parse_block({"endgeneration"});
    end_block("endgeneration");
    return node;
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  int depth_ = 0;
  int loops_ = 0;
};

}  // namespace

Block parse_template(std::string_view source) { return Parser(source).parse(); }

}  // namespace deepseek_train::text::jinja
