// JSON objects as records: which shape they have, and what they say.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "deepseek_train/data/sources.h"
#include "src/data/field_template.h"

namespace deepseek_train::data {

enum class JsonShape { kOpenAiChat, kShareGpt, kAlpaca, kPromptCompletion, kText };

// Parses one line of a JSONL file. InvalidArgument unless it is one JSON object.
nlohmann::json parse_json_object(const std::string& place, std::string_view line);

// By the object's fields; InvalidArgument lists the fields it has and the shapes there are.
JsonShape detect_shape(const std::string& place, const nlohmann::json& object);

// The record of an object of the shape. InvalidArgument if a field is missing or of the wrong type,
// or a role unknown.
std::vector<Segment> read_shape(const std::string& place, const nlohmann::json& object,
                                JsonShape shape, const RenderChat& render_chat);

// Fields for templates: text as it is, numbers and booleans as JSON writes them; null, lists and
// objects are refused. Borrows both.
FieldLookup json_fields(const std::string& place, const nlohmann::json& object);

}  // namespace deepseek_train::data
