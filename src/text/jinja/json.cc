#include "src/text/jinja/json.h"

#include <algorithm>

namespace deepseek_train::text::jinja {
namespace {

using Json = nlohmann::ordered_json;

class Writer {
 public:
  Writer(const JsonStyle& style, int line) : style_(style), line_(line) {}

  std::string write(const Value& value) {
    append(value, 0);
    return std::move(text_);
  }

 private:
  void append(const Value& value, int depth) {
    if (value.is_none()) {
      text_ += "null";
    } else if (value.is_bool()) {
      text_ += value.truth() ? "true" : "false";
    } else if (value.is_number()) {
      text_ += repr(value, line_);
    } else if (value.is_string()) {
      append_string(value.bytes());
    } else if (value.is_list()) {
      append_list(value.list(), depth);
    } else if (value.is_map() && !value.map().is_namespace) {
      append_map(value.map(), depth);
    } else if (value.is_undefined()) {
      fail(line_, "tojson of \"", value.undefined_name(), "\", which is undefined");
    } else {
      fail(line_, "tojson of ", value.type_name());
    }
  }

  void append_string(const std::string& bytes) {
    try {
      std::string quoted_text = Json(bytes).dump(-1, ' ', style_.ensure_ascii);
      text_ += quoted_text;
    } catch (const Json::exception&) {
      fail(line_, "tojson of text that is not UTF-8");
    }
  }

  void append_list(const List& list, int depth) {
    text_ += '[';
    for (size_t i = 0; i < list.items.size(); ++i) {
      begin_item(i == 0, depth + 1);
      append(list.items[i], depth + 1);
    }
    if (!list.items.empty()) end_line(depth);
    text_ += ']';
  }

  void append_map(const Map& map, int depth) {
    auto items = map.items;
    if (style_.sort_keys)
      std::sort(items.begin(), items.end(), [](auto& a, auto& b) { return a.first < b.first; });
    text_ += '{';
    for (size_t i = 0; i < items.size(); ++i) {
      begin_item(i == 0, depth + 1);
      append_string(items[i].first);
      text_ += style_.key_separator;
      append(items[i].second, depth + 1);
    }
    if (!items.empty()) end_line(depth);
    text_ += '}';
  }

  void begin_item(bool first, int depth) {
    if (!first) {
      text_ += !style_.item_separator.empty() ? style_.item_separator
               : style_.indent >= 0           ? ","
                                              : ", ";
    }
    end_line(depth);
  }

  void end_line(int depth) {
    if (style_.indent < 0) return;
    text_ += '\n';
    text_.append(static_cast<size_t>(depth * style_.indent), ' ');
  }

  const JsonStyle& style_;
  int line_;
  std::string text_;
};

}  // namespace

Value value_of_json(const Json& json) {
  switch (json.type()) {
    case Json::value_t::null: return Value::None{};
    case Json::value_t::boolean: return json.get<bool>();
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned: return json.get<int64_t>();
    case Json::value_t::number_float: return json.get<double>();
    case Json::value_t::string: return json.get<std::string>();
    case Json::value_t::array: {
      List list;
      for (const auto& item : json) list.items.push_back(value_of_json(item));
      return list;
    }
    case Json::value_t::object: {
      Map map;
      for (const auto& [key, value] : json.items()) map.set(key, value_of_json(value));
      return map;
    }
    default: throw Internal("JSON of an unknown kind");
  }
}

std::string to_json(const Value& value, const JsonStyle& style, int line) {
  return Writer(style, line).write(value);
}

}  // namespace deepseek_train::text::jinja
