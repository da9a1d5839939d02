// Checked access to parsed JSON, with errors that name the key.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "deepseek_train/core/error.h"

namespace deepseek_train::text {

using Json = nlohmann::json;

// Throws DataCorruption naming `what` if the text is not one JSON object.
inline Json parse_json_object(std::string_view text, std::string_view what) {
  try {
    Json json = Json::parse(text.begin(), text.end());
    DST_CHECK_AS(DataCorruption, json.is_object(), what, " is ", json.type_name(),
                 ", wanted an object");
    return json;
  } catch (const Json::exception& error) {
    throw DataCorruption(
        concat(what, " is not valid JSON: ", std::string_view(error.what()).substr(0, 200)));
  }
}

// The value under `key`; a shared null if there is none.
inline const Json& value_or_null(const Json& object, const char* key) {
  static const Json null;
  if (!object.is_object()) return null;
  auto found = object.find(key);
  return found == object.end() ? null : *found;
}

// Throws InvalidArgument naming a key of `object` that is not among `known`: what it asks for would
// be left out without a word.
inline void check_keys(const Json& object, std::string_view what,
                       std::initializer_list<std::string_view> known) {
  if (!object.is_object()) return;
  for (const auto& [key, value] : object.items())
    DST_CHECK(std::find(known.begin(), known.end(), key) != known.end(), what, " has the key \"",
              key, "\", which is not known; it was made by a newer library");
}

inline const Json& require_array(const Json& json, std::string_view what) {
  DST_CHECK_AS(DataCorruption, json.is_array(), what, " is ", json.type_name(),
               ", wanted an array");
  return json;
}

inline const std::string& require_string(const Json& json, std::string_view what) {
  DST_CHECK_AS(DataCorruption, json.is_string(), what, " is ", json.type_name(),
               ", wanted a string");
  return json.get_ref<const std::string&>();
}

// null counts as absent.
inline bool bool_or(const Json& object, const char* key, bool otherwise) {
  const Json& value = value_or_null(object, key);
  if (value.is_null()) return otherwise;
  DST_CHECK_AS(DataCorruption, value.is_boolean(), key, " is ", value.type_name(),
               ", wanted true or false");
  return value.get<bool>();
}

// "" for null or absent.
inline std::string string_or_empty(const Json& object, const char* key) {
  const Json& value = value_or_null(object, key);
  return value.is_null() ? "" : require_string(value, key);
}

}  // namespace deepseek_train::text
