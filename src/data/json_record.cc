#include "src/data/json_record.h"

#include <array>

#include "deepseek_train/core/error.h"

namespace deepseek_train::data {
namespace {

using nlohmann::json;

std::vector<std::string> field_names(const json& object) {
  std::vector<std::string> names;
  for (const auto& [name, value] : object.items()) names.push_back(name);
  return names;
}

// Never null; into `object`.
const json* find_field(const std::string& place, const json& object, const std::string& name) {
  auto found = object.find(name);
  if (found == object.end()) throw_missing_field(place, name, field_names(object));
  return &*found;
}

std::string text_field(const std::string& place, const json& object, const std::string& name) {
  const json& value = *find_field(place, object, name);
  DST_CHECK(value.is_string(), place, ": \"", name, "\" is of type ", value.type_name(),
            ", wanted a string");
  return value.get<std::string>();
}

std::string optional_text(const std::string& place, const json& object, const std::string& name) {
  auto found = object.find(name);
  return found == object.end() || found->is_null() ? "" : text_field(place, object, name);
}

// Never null; into `object`.
const json* find_list(const std::string& place, const json& object, const std::string& name) {
  const json* value = find_field(place, object, name);
  DST_CHECK(value->is_array() && !value->empty(), place, ": \"", name,
            "\" is no list with turns in it");
  return value;
}

// A turn's content is a string or, in newer OpenAI files, a list of parts, of which we take text
// only.
std::string content_of(const std::string& place, const json& turn) {
  const json& content = *find_field(place, turn, "content");
  if (!content.is_array()) return text_field(place, turn, "content");
  std::string text;
  for (const json& part : content) {
    DST_CHECK(part.is_object() && part.value("type", json()) == "text", place,
              ": a part of \"content\" is not of type text; only text can be trained on");
    text += text_field(place, part, "text");
  }
  return text;
}

// The names that data sets use for the four roles.
std::string role_of(const std::string& place, const std::string& name) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kRoles = {
      {{"system", "system"},
       {"developer", "system"},
       {"user", "user"},
       {"human", "user"},
       {"assistant", "assistant"},
       {"gpt", "assistant"},
       {"model", "assistant"},
       {"function_call", "assistant"},
       {"tool", "tool"},
       {"function", "tool"},
       {"observation", "tool"}}};
  std::vector<std::string> known;
  for (const auto& [alias, role] : kRoles) {
    if (alias == name) return std::string(role);
    known.emplace_back(alias);
  }
  throw InvalidArgument(concat(place, ": unknown role \"", name, "\"; known are ", known));
}

void check_turn(const std::string& place, const json& turn) {
  DST_CHECK(turn.is_object(), place, ": a turn is of type ", turn.type_name(),
            ", wanted an object");
}

std::vector<Message> open_ai_messages(const std::string& place, const json& object) {
  std::vector<Message> messages;
  for (const json& turn : *find_list(place, object, "messages")) {
    check_turn(place, turn);
    messages.push_back({role_of(place, text_field(place, turn, "role")), content_of(place, turn)});
  }
  return messages;
}

void append_system(const std::string& place, const json& object, std::vector<Message>& messages) {
  std::string system = optional_text(place, object, "system");
  if (!system.empty()) messages.push_back({"system", std::move(system)});
}

std::vector<Message> share_gpt_messages(const std::string& place, const json& object) {
  std::vector<Message> messages;
  append_system(place, object, messages);
  for (const json& turn : *find_list(place, object, "conversations")) {
    check_turn(place, turn);
    messages.push_back(
        {role_of(place, text_field(place, turn, "from")), text_field(place, turn, "value")});
  }
  return messages;
}

// Earlier turns, as pairs of question and answer.
void append_history(const std::string& place, const json& object, std::vector<Message>& messages) {
  auto history = object.find("history");
  if (history == object.end() || history->is_null()) return;
  DST_CHECK(history->is_array(), place, ": \"history\" is of type ", history->type_name(),
            ", wanted a list of pairs");
  for (const json& pair : *history) {
    DST_CHECK(pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_string(),
              place, ": an entry of \"history\" is not a pair of strings");
    messages.push_back({"user", pair[0].get<std::string>()});
    messages.push_back({"assistant", pair[1].get<std::string>()});
  }
}

std::vector<Message> alpaca_messages(const std::string& place, const json& object) {
  std::vector<Message> messages;
  append_system(place, object, messages);
  append_history(place, object, messages);
  std::string question = text_field(place, object, "instruction");
  const std::string input = optional_text(place, object, "input");
  if (!input.empty()) question += "\n" + input;
  messages.push_back({"user", std::move(question)});
  messages.push_back({"assistant", text_field(place, object, "output")});
  return messages;
}

// The renderer knows the model, not the file: its errors get the place here.
std::vector<Segment> render(const std::string& place, const std::vector<Message>& messages,
                            const RenderChat& render_chat) {
  DST_CHECK(render_chat != nullptr, place,
            ": a chat needs the model's chat template; use a model that has one, or give a prompt "
            "and an answer template");
  try {
    return render_chat(messages);
  } catch (const InvalidArgument& error) {
    throw InvalidArgument(concat(place, ": ", error.what()));
  }
}

}  // namespace

json parse_json_object(const std::string& place, std::string_view line) {
  try {
    json value = json::parse(line);
    DST_CHECK(value.is_object(), place, ": found JSON of type ", value.type_name(),
              ", wanted one object a line; a JSON list becomes JSONL with: jq -c '.[]'");
    return value;
  } catch (const json::parse_error& error) {
    throw InvalidArgument(concat(place, ": not valid JSON near character ", error.byte,
                                 "; JSONL has one complete object on every line (a JSON list "
                                 "becomes that with: jq -c '.[]')"));
  }
}

JsonShape detect_shape(const std::string& place, const json& object) {
  if (object.contains("messages")) return JsonShape::kOpenAiChat;
  if (object.contains("conversations")) return JsonShape::kShareGpt;
  if (object.contains("instruction")) return JsonShape::kAlpaca;
  if (object.contains("prompt") && object.contains("completion"))
    return JsonShape::kPromptCompletion;
  if (object.contains("text")) return JsonShape::kText;
  throw InvalidArgument(
      concat(place, ": unknown shape with fields ", field_names(object),
             "; known are messages, conversations, instruction and output, prompt and completion, "
             "text; for other fields give a prompt and an answer template"));
}

std::vector<Segment> read_shape(const std::string& place, const json& object, JsonShape shape,
                                const RenderChat& render_chat) {
  switch (shape) {
    case JsonShape::kOpenAiChat: return render(place, open_ai_messages(place, object), render_chat);
    case JsonShape::kShareGpt: return render(place, share_gpt_messages(place, object), render_chat);
    case JsonShape::kAlpaca: return render(place, alpaca_messages(place, object), render_chat);
    case JsonShape::kPromptCompletion:
      return {{text_field(place, object, "prompt"), false},
              {text_field(place, object, "completion"), true}};
    case JsonShape::kText: return {{text_field(place, object, "text"), true}};
  }
  throw Internal(concat("unknown JsonShape ", static_cast<int>(shape)));
}

FieldLookup json_fields(const std::string& place, const json& object) {
  return [&place, &object](const std::string& name) {
    const json& value = *find_field(place, object, name);
    if (value.is_string()) return value.get<std::string>();
    DST_CHECK(value.is_number() || value.is_boolean(), place, ": \"", name, "\" is of type ",
              value.type_name(), ", wanted text, a number or a boolean");
    return value.dump();
  };
}

}  // namespace deepseek_train::data
