#include "src/formats/strict_json.h"

#include <unordered_set>
#include <vector>

#include "deepseek_train/core/error.h"

namespace deepseek_train::formats {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 4;

// nlohmann-json keeps the last of two equal keys silently; a header that names a tensor twice is
// refused instead.
class DuplicateKeyCheck {
 public:
  explicit DuplicateKeyCheck(const std::string& where) : where_(where) {}

  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    DST_CHECK_AS(DataCorruption, depth <= kMaxDepth, where_,
                 " nests deeper than it can in a right file");
    if (event == Json::parse_event_t::object_start) keys_of_open_objects_.emplace_back();
    if (event == Json::parse_event_t::object_end) keys_of_open_objects_.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      DST_CHECK_AS(DataCorruption, keys_of_open_objects_.back().insert(key).second, where_,
                   " names \"", key, "\" twice");
    }
    return true;
  }

 private:
  const std::string& where_;
  std::vector<std::unordered_set<std::string>> keys_of_open_objects_;
};

}  // namespace

Json parse_strict_json(std::string_view text, const std::string& where) {
  try {
    DuplicateKeyCheck check(where);
    return Json::parse(text.begin(), text.end(),
                       [&check](int depth, Json::parse_event_t event, Json& parsed) {
                         return check(depth, event, parsed);
                       });
  } catch (const Json::exception& error) {
    constexpr size_t kMaxShown = 200;
    throw DataCorruption(concat(where, " is not valid JSON (",
                                std::string_view(error.what()).substr(0, kMaxShown), ")"));
  }
}

}  // namespace deepseek_train::formats
