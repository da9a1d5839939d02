#include <nlohmann/json.hpp>
#include <regex>

#include "deepseek_train/core/error.h"
#include "deepseek_train/quantization/compressed_tensors.h"

namespace deepseek_train::quantization {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kRegexMark = "re:";

const Json* find(const Json& object, const std::string& key) {
  const auto entry = object.find(key);
  return entry == object.end() || entry->is_null() ? nullptr : &*entry;
}

constexpr int kMaxDepth = 32;
constexpr size_t kMaxQuotedLength = 200;

std::string text_of(const Json* value) {
  return value ? value->dump().substr(0, kMaxQuotedLength) : "nothing";
}

// Refuses nesting that real files do not have before recursive code meets it.
bool check_depth(int depth, Json::parse_event_t, Json&) {
  DST_CHECK_AS(DataCorruption, depth < kMaxDepth, "quantization_config is nested ", depth,
               " levels deep, wanted at most ", kMaxDepth);
  return true;
}

// The key must hold exactly this value; `why` says what we can run.
void require(const Json& object, const std::string& place, const std::string& key,
             const Json& wanted) {
  const Json* found = find(object, key);
  DST_CHECK(found && *found == wanted, "quantization_config: ", place, key, " is ", text_of(found),
            ", and this library runs ", wanted.dump(),
            " only; convert the model to w8a8 (INT8 weights per channel, ",
            "INT8 activations per token)");
}

// The key must be absent, null or empty.
void refuse(const Json& object, const std::string& place, const std::string& key) {
  const Json* found = find(object, key);
  DST_CHECK(!found || (found->is_structured() && found->empty()), "quantization_config: ", place,
            key, " is ", text_of(found), ", which this library cannot run; wanted none");
}

void require_args(const Json& group, const std::string& place, const std::string& key,
                  const QuantizationArgs& wanted) {
  const Json* args = find(group, key);
  DST_CHECK(args, "quantization_config: ", place, key,
            " is missing, so only one side is quantized; ",
            "this library runs INT8 weights with INT8 activations");
  DST_CHECK_AS(DataCorruption, args->is_object(), "quantization_config: ", place, key, " is ",
               text_of(args), ", wanted an object");
  const std::string inner = place + key + ".";
  require(*args, inner, "num_bits", wanted.num_bits);
  require(*args, inner, "type", name_of(wanted.type));
  require(*args, inner, "strategy", name_of(wanted.strategy));
  require(*args, inner, "symmetric", wanted.symmetric);
  if (wanted.dynamic || find(*args, "dynamic")) require(*args, inner, "dynamic", wanted.dynamic);
  refuse(*args, inner, "group_size");
  refuse(*args, inner, "block_structure");
  refuse(*args, inner, "actorder");
}

// All Linear modules: the one target that W8A8 exports have.
void require_group(const Json& group, const std::string& place) {
  DST_CHECK_AS(DataCorruption, group.is_object(), "quantization_config: ", place, " is no object");
  const QuantizationScheme scheme = w8a8();
  require(group, place, "targets", Json::array({"Linear"}));
  if (find(group, "format")) require(group, place, "format", "int-quantized");
  require_args(group, place, "weights", scheme.weights);
  require_args(group, place, "input_activations", *scheme.input_activations);
  refuse(group, place, "output_activations");
}

std::vector<std::string> read_ignore(const Json& config) {
  std::vector<std::string> names;
  const Json* ignore = find(config, "ignore");
  if (!ignore) return names;
  DST_CHECK_AS(DataCorruption, ignore->is_array(), "quantization_config: ignore is ",
               text_of(ignore), ", wanted a list of names");
  for (const Json& name : *ignore) {
    DST_CHECK_AS(DataCorruption, name.is_string(), "quantization_config: ignore holds ",
                 text_of(&name), ", wanted names");
    names.push_back(name.get<std::string>());
  }
  return names;
}

bool matches(const std::string& pattern, std::string_view name) {
  try {
    const std::regex regex(pattern, std::regex::ECMAScript);
    return std::regex_search(name.begin(), name.end(), regex,
                             std::regex_constants::match_continuous);
  } catch (const std::regex_error& error) {
    throw InvalidArgument(concat("quantization_config: the ignore pattern 're:", pattern,
                                 "' cannot be used as a regular expression: ", error.what()));
  }
}

}  // namespace

CompressedTensorsConfig parse_compressed_tensors_config(std::string_view text) {
  const Json config = Json::parse(text, check_depth, /*allow_exceptions=*/false);
  DST_CHECK_AS(DataCorruption, config.is_object(), "quantization_config is not a JSON object (",
               text.size(), " bytes); is config.json cut or altered?");
  require(config, "", "quant_method", "compressed-tensors");
  require(config, "", "quantization_status", "compressed");
  if (find(config, "format")) require(config, "", "format", "int-quantized");
  for (const char* key :
       {"kv_cache_scheme", "sparsity_config", "transform_config", "moe_sparsity_config"}) {
    refuse(config, "", key);
  }
  const Json* groups = find(config, "config_groups");
  DST_CHECK_AS(DataCorruption, groups && groups->is_object(),
               "quantization_config: config_groups is ", text_of(groups),
               ", wanted an object with one group");
  DST_CHECK(groups->size() == 1, "quantization_config: config_groups has ", groups->size(),
            " groups, and this library runs models with one scheme for all Linear modules");
  require_group(groups->begin().value(), concat("config_groups.", groups->begin().key(), "."));
  return {.scheme = w8a8(), .ignore = read_ignore(config)};
}

bool is_ignored(const CompressedTensorsConfig& config, std::string_view module_name) {
  for (const std::string& entry : config.ignore) {
    if (entry == module_name) return true;
    if (entry.starts_with(kRegexMark) && matches(entry.substr(kRegexMark.size()), module_name))
      return true;
  }
  return false;
}

}  // namespace deepseek_train::quantization
