#include "src/models/token_choice.h"

#include "deepseek_train/core/error.h"

namespace deepseek_train::models {

TokenChoice::TokenChoice(const GenerateOptions& options, size_t num_rows)
    : temperature_(options.temperature), top_p_(options.top_p) {
  DST_CHECK(temperature_ >= 0, "temperature is ", temperature_, ", wanted 0 (greedy) or more");
  DST_CHECK(top_p_ > 0 && top_p_ <= 1, "top_p is ", top_p_, ", wanted above 0 and at most 1");
  for (size_t row = 0; row < num_rows && temperature_ > 0; ++row)
    generators_.push_back(at::detail::createCPUGenerator(options.seed + row));
}

torch::Tensor TokenChoice::operator()(const torch::Tensor& logits) {
  if (temperature_ == 0) return logits.argmax(-1);
  auto probabilities = (logits.squeeze(1).to(at::kFloat) / temperature_).softmax(-1).cpu();
  std::vector<torch::Tensor> tokens;
  for (size_t row = 0; row < generators_.size(); ++row)
    tokens.push_back(draw(probabilities[static_cast<int64_t>(row)], generators_[row]));
  return torch::stack(tokens).to(logits.device());
}

// probabilities [V] -> [1]. The token that crosses top_p is still in.
torch::Tensor TokenChoice::draw(const torch::Tensor& probabilities,
                                at::Generator& generator) const {
  if (top_p_ == 1) return probabilities.multinomial(1, false, generator);
  auto [sorted, ids] = probabilities.sort(/*stable=*/true, -1, /*descending=*/true);
  auto before = sorted.cumsum(-1) - sorted;
  auto kept = sorted.masked_fill(before >= top_p_, 0);
  return ids.gather(0, kept.multinomial(1, false, generator));
}

}  // namespace deepseek_train::models
