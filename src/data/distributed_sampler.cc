#include "deepseek_train/data/distributed_sampler.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"

namespace deepseek_train::data {
namespace {

using nlohmann::json;

Permutation checked_order(const DistributedSamplerOptions& options) {
  DST_CHECK(options.num_samples >= 1, "num_samples is ", options.num_samples,
            ", wanted at least 1");
  DST_CHECK(options.num_replicas >= 1 && 0 <= options.rank && options.rank < options.num_replicas,
            "rank ", options.rank, " of ", options.num_replicas,
            " replicas, wanted 0 <= rank < num_replicas");
  return Permutation(options.num_samples, options.seed, 0);
}

json parse_state(std::string_view text) {
  json state = json::parse(text, nullptr, /*allow_exceptions=*/false);
  DST_CHECK_AS(DataCorruption, state.is_object(),
               "the sampler state is not a JSON object: ", text.substr(0, 80));
  for (const char* key : {"version", "epoch", "position", "num_samples", "seed"})
    DST_CHECK_AS(DataCorruption, state.contains(key) && state[key].is_number_integer(),
                 "the sampler state has no integer \"", key, "\": ", text.substr(0, 200));
  DST_CHECK_AS(DataCorruption, state.contains("shuffle") && state["shuffle"].is_boolean(),
               "the sampler state has no boolean \"shuffle\": ", text.substr(0, 200));
  return state;
}

template <typename T>
void check_same(const json& state, const char* key, T own) {
  DST_CHECK(state[key] == json(own), "the saved sampler state has ", key, " ", state[key].dump(),
            ", this sampler has ", own,
            "; go on with the settings and data of the saved run, or start a new one");
}

}  // namespace

DistributedSampler::DistributedSampler(const DistributedSamplerOptions& options)
    : options_(options), order_(checked_order(options)) {}

int64_t DistributedSampler::rounds_from(int64_t start) const {
  int64_t left = std::max<int64_t>(options_.num_samples - start, 0);
  int64_t rounded_up = options_.drop_last ? 0 : options_.num_replicas - 1;
  return (left + rounded_up) / options_.num_replicas;
}

int64_t DistributedSampler::sample_at(int64_t place) const {
  int64_t wrapped = place % options_.num_samples;
  return options_.shuffle ? order_(wrapped) : wrapped;
}

int64_t DistributedSampler::index(int64_t k) const {
  DST_CHECK(0 <= k && k < size(), "sample ", k, " of this rank asked for, it has ", size());
  return sample_at(k * options_.num_replicas + options_.rank);
}

std::optional<int64_t> DistributedSampler::next() {
  if (remaining() == 0) return std::nullopt;
  int64_t sample = sample_at(position() + options_.rank);
  ++taken_;
  return sample;
}

void DistributedSampler::skip(int64_t count) {
  DST_CHECK(0 <= count && count <= remaining(), "skip of ", count, " samples, ", remaining(),
            " are left");
  taken_ += count;
}

void DistributedSampler::set_epoch(int64_t epoch) {
  DST_CHECK(epoch >= 0, "epoch is ", epoch, ", wanted at least 0");
  if (epoch == epoch_) return;
  epoch_ = epoch;
  order_ = Permutation(options_.num_samples, options_.seed, static_cast<uint64_t>(epoch));
  restart();
}

void DistributedSampler::restart() { start_ = taken_ = 0; }

std::string DistributedSampler::state_dict() const {
  return json{{"version", kPermutationVersion}, {"epoch", epoch_},
              {"position", position()},         {"num_samples", options_.num_samples},
              {"seed", options_.seed},          {"shuffle", options_.shuffle}}
      .dump();
}

void DistributedSampler::load_state_dict(std::string_view text) {
  const json state = parse_state(text);
  check_same(state, "version", kPermutationVersion);
  check_same(state, "num_samples", options_.num_samples);
  check_same(state, "seed", options_.seed);
  check_same(state, "shuffle", options_.shuffle);
  // A last round that was filled up ends beyond num_samples, by less than the number of ranks, an
  // int.
  constexpr int64_t kMostPadding = int64_t{1} << 31;
  const json& position = state["position"];
  DST_CHECK_AS(DataCorruption, position >= 0 && position <= options_.num_samples + kMostPadding,
               "the sampler state has position ", position.dump(), " of ", options_.num_samples,
               " samples");
  DST_CHECK_AS(DataCorruption, state["epoch"] >= 0 && state["epoch"] <= INT64_MAX,
               "the sampler state has epoch ", state["epoch"].dump());
  set_epoch(state["epoch"].get<int64_t>());
  start_ = position.get<int64_t>();
  taken_ = 0;
}

}  // namespace deepseek_train::data
