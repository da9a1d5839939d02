#include "deepseek_train/tuning/recipe.h"

#include <yaml-cpp/yaml.h>

#include <cmath>
#include <limits>

#include "deepseek_train/core/error.h"

namespace deepseek_train::tuning {
namespace {

// One mapping of the file. Each key that is asked for is a known key; finish() refuses the others.
class Section {
 public:
  Section(YAML::Node node, std::string origin, std::string prefix)
      : node_(std::move(node)), origin_(std::move(origin)), prefix_(std::move(prefix)) {
    DST_CHECK(node_.IsMap(), place(node_), prefix_.empty() ? "a recipe" : prefix_,
              " must be a mapping of keys to values");
  }

  template <typename T>
  void read(const char* key, T& value) {
    if (auto node = take(key)) convert(node, key, value);
  }

  template <typename T>
  void read_at_least(const char* key, T& value, T minimum) {
    auto node = take(key);
    if (!node) return;
    convert(node, key, value);
    DST_CHECK(value >= minimum, place(node), name(key), " is ", value, ", wanted at least ",
              minimum);
  }

  template <typename T>
  void read_at_least(const char* key, std::optional<T>& value, T minimum) {
    T number = value.value_or(minimum);
    read_at_least(key, number, minimum);
    if (node_[key]) value = number;
  }

  void read_above_zero(const char* key, double& value) {
    auto node = take(key);
    if (!node) return;
    convert(node, key, value);
    DST_CHECK(std::isfinite(value) && value > 0, place(node), name(key), " is ", value,
              ", wanted a number above zero");
  }

  void read_one_of(const char* key, std::string& value, const std::vector<std::string>& choices) {
    auto node = take(key);
    if (!node) return;
    convert(node, key, value);
    for (const auto& choice : choices)
      if (value == choice) return;
    throw InvalidArgument(
        concat(place(node), name(key), " is \"", value, "\", wanted one of ", choices));
  }

  void require(const char* key) const {
    DST_CHECK(node_[key], place(node_), "the key ", name(key), " is missing");
  }

  template <typename Read>
  void section(const char* key, const Read& read) {
    auto node = take(key);
    if (!node) return;
    Section inner(node, origin_, name(key) + ".");
    read(inner);
    inner.finish();
  }

  void finish() const {
    for (const auto& entry : node_) {
      auto key = entry.first.as<std::string>();
      bool known = false;
      for (const auto& candidate : known_) known = known || candidate == key;
      if (known) continue;
      auto nearest = nearest_word(key, known_);
      throw InvalidArgument(concat(place(entry.first), "unknown key ", prefix_, key,
                                   nearest.empty()
                                       ? concat("; known here: ", known_)
                                       : concat("; did you mean ", prefix_, nearest, "?")));
    }
  }

 private:
  YAML::Node take(const char* key) {
    known_.push_back(key);
    return node_[key];
  }

  template <typename T>
  void convert(const YAML::Node& node, const char* key, T& value) const {
    try {
      value = node.as<T>();
    } catch (const YAML::Exception&) {
      throw InvalidArgument(concat(place(node), name(key), " is \"",
                                   node.IsScalar() ? node.Scalar() : "(not a single value)",
                                   "\", wanted ", kind_of(value)));
    }
  }

  static std::string_view kind_of(const std::string&) { return "text"; }
  static std::string_view kind_of(int64_t) { return "a whole number"; }
  static std::string_view kind_of(double) { return "a number"; }
  static std::string_view kind_of(bool) { return "true or false"; }
  static std::string_view kind_of(const std::vector<std::string>&) { return "a list of texts"; }

  std::string name(const char* key) const { return prefix_ + key; }
  std::string place(const YAML::Node& node) const {
    return concat(origin_, ":", node.Mark().line + 1, ": ");
  }

  YAML::Node node_;
  std::string origin_;
  std::string prefix_;
  std::vector<std::string> known_;
};

const std::vector<std::string> kDTypes = {"auto", "float32", "bfloat16"};

void read_data(Section& section, DataRecipe& data) {
  section.require("train");
  section.read("train", data.train);
  section.read("test", data.test);
  section.read_one_of("format", data.format, {"auto", "text", "jsonl", "csv"});
  section.read("prompt", data.prompt);
  section.read("answer", data.answer);
  section.read_one_of("think", data.think, {"keep", "mask", "drop"});
  section.read_at_least<int64_t>("max_length", data.max_length, 2);
}

void read_training(Section& section, TrainingRecipe& training) {
  section.require("max_steps");
  section.read_at_least<int64_t>("max_steps", training.max_steps, 1);
  section.read_at_least<int64_t>("per_device_train_batch_size",
                                 training.per_device_train_batch_size, 1);
  section.read_at_least<int64_t>("gradient_accumulation_steps",
                                 training.gradient_accumulation_steps, 1);
  section.read_above_zero("learning_rate", training.learning_rate);
  section.read_at_least("min_learning_rate_ratio", training.min_learning_rate_ratio, 0.0);
  section.read_at_least<int64_t>("warmup_steps", training.warmup_steps, 0);
  section.read_at_least("weight_decay", training.weight_decay, 0.0);
  section.read_at_least("max_grad_norm", training.max_grad_norm, 0.0);
  section.read_at_least("router_aux_loss_coef", training.router_aux_loss_coef, 0.0);
  section.read_at_least("bias_update_speed", training.bias_update_speed, 0.0);
  section.read_at_least("mtp_loss_weight", training.mtp_loss_weight, 0.0);
  section.read_at_least<int64_t>("seed", training.seed, 0);
  section.read_at_least<int64_t>("save_steps", training.save_steps, 0);
  section.read_at_least<int64_t>("save_total_limit", training.save_total_limit, 1);
}

void read_lora(Section& section, LoraRecipe& lora) {
  auto& config = lora.config;
  section.read_at_least<int64_t>("r", config.r, 1);
  section.read_above_zero("lora_alpha", config.lora_alpha);
  section.read_at_least("lora_dropout", config.lora_dropout, 0.0);
  section.read("target_modules", config.target_modules);
  section.read("exclude_modules", config.exclude_modules);
  section.read("modules_to_save", config.modules_to_save);
  section.read("use_rslora", config.use_rslora);
  section.read("use_dora", config.use_dora);
  section.read_one_of("base", lora.base, {"nf4", "nf4-double", "int8"});
  config.check();
}

void read_quantization(Section& section, QuantizationRecipe& quantization) {
  section.require("scheme");
  section.read_one_of("scheme", quantization.scheme, {"w8a8"});
  section.read_at_least<int64_t>("qat_steps", quantization.qat_steps, 0);
  section.read("ignore", quantization.ignore);
}

void read_evaluation(Section& section, EvaluationRecipe& evaluation) {
  section.read("baseline", evaluation.baseline);
  section.read_at_least<int64_t>("max_new_tokens", evaluation.max_new_tokens, 1);
  section.read_at_least<int64_t>("batch_size", evaluation.batch_size, 1);
  section.read_at_least<int64_t>("context", evaluation.context, 2);
  section.read_one_of("compute_dtype", evaluation.compute_dtype, kDTypes);
}

void read_communication(Section& section, CommunicationRecipe& communication) {
  section.read_one_of("backend", communication.backend, {"native", "mpi"});
  section.read_at_least<int64_t>("timeout_seconds", communication.timeout_seconds, 1);
  section.read("credentials", communication.credentials);
  section.read("job", communication.job);
  DST_CHECK(communication.credentials.empty() == communication.job.empty(),
            "communication.credentials is \"", communication.credentials,
            "\" and communication.job \"", communication.job,
            "\"; wanted both (a folder, and the job's SPIFFE id) or neither");
  section.read("insecure_network", communication.insecure_network);
}

Recipe read_recipe(Section& section) {
  Recipe recipe;
  for (const char* key : {"name", "model_name_or_path", "data", "training"}) section.require(key);
  section.read("name", recipe.name);
  section.read("output_dir", recipe.output_dir);
  section.read("model_name_or_path", recipe.model_name_or_path);
  section.read_one_of("compute_dtype", recipe.compute_dtype, kDTypes);
  section.read("attention_block", recipe.attention_block);
  section.read("mlp_block", recipe.mlp_block);
  section.section("data", [&](Section& s) { read_data(s, recipe.data); });
  section.section("training", [&](Section& s) { read_training(s, recipe.training); });
  section.section("lora", [&](Section& s) { read_lora(s, recipe.lora.emplace()); });
  section.section("quantization", [&](Section& s) { read_quantization(s, recipe.quantization); });
  section.section("evaluation", [&](Section& s) { read_evaluation(s, recipe.evaluation); });
  section.section("communication",
                  [&](Section& s) { read_communication(s, recipe.communication); });
  section.finish();
  return recipe;
}

}  // namespace

Recipe parse_recipe(std::string_view yaml, const std::string& origin) {
  YAML::Node root;
  try {
    root = YAML::Load(std::string(yaml));
  } catch (const YAML::Exception& error) {
    throw InvalidArgument(
        concat(origin, ":", error.mark.line + 1, ": not valid YAML: ", error.msg));
  }
  Section section(root, origin, "");
  auto recipe = read_recipe(section);
  DST_CHECK(!recipe.name.empty() && recipe.name.find('/') == std::string::npos, origin,
            ": name is \"", recipe.name, "\", wanted a folder's name without slashes");
  DST_CHECK(!recipe.lora || recipe.quantization.qat_steps == 0, origin,
            ": quantization-aware training moves all weights, an adapter leaves them as they are; "
            "leave out quantization.qat_steps, or the section lora");
  return recipe;
}

Recipe load_recipe(Env& env, const std::string& path) {
  return parse_recipe(read_text(env, path), path);
}

data::SourceOptions sources_of(const DataRecipe& recipe, const std::string& path,
                               data::RenderChat render_chat) {
  data::SourceOptions sources;
  sources.paths = {path};
  sources.format = data::parse_source_format(recipe.format);
  sources.prompt_template = recipe.prompt;
  sources.answer_template = recipe.answer;
  sources.render_chat = std::move(render_chat);
  return sources;
}

}  // namespace deepseek_train::tuning
