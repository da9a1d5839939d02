#include "deepseek_train/training/losses.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/training/tiny_lm.h"

namespace deepseek_train::training {
namespace {

data::Batch sample_batch(int64_t count = 5) {
  auto dataset = tiny_dataset(count);
  std::vector<data::Document> documents;
  std::vector<int64_t> samples(static_cast<size_t>(count));
  std::iota(samples.begin(), samples.end(), 0);
  for (int64_t i : samples) documents.push_back(dataset.document(i));
  return data::collate(documents, samples, /*max_length=*/64, /*pad_id=*/0);
}

// Probabilities [length, V] of one row alone, without padding.
torch::Tensor row_probabilities(CausalLm& model, const data::Batch& batch, int64_t row) {
  auto begin = batch.input_ids.begin() + row * batch.columns;
  std::vector<int64_t> ids(begin, begin + batch.lengths[static_cast<size_t>(row)]);
  return model.logits(model.hidden_states(torch::tensor(ids).unsqueeze(0))[0])
      .to(at::kDouble)
      .softmax(-1);
}

TEST(CrossEntropyTest, EqualsTheSumTokenByToken) {
  TinyLm model(1);
  auto batch = sample_batch();
  double expected = 0;
  for (int64_t row = 0; row < batch.rows; ++row) {
    auto probabilities = row_probabilities(model, batch, row);
    for (int64_t t = 1; t < batch.lengths[static_cast<size_t>(row)]; ++t)
      if (auto label = batch.labels[static_cast<size_t>(row * batch.columns + t)];
          label != data::kIgnoreIndex)
        expected -= std::log(probabilities[t - 1][label].item<double>());
  }
  EXPECT_NEAR(cross_entropy_sum(model, batch).item<double>(), expected, 1e-4 * expected);
  EXPECT_EQ(cross_entropy().count(batch), batch.num_loss_tokens());
}

// Loss and gradients of all parameters but the head.
std::vector<torch::Tensor> loss_and_gradients(TinyLm& model, const data::Batch& batch) {
  model.zero_grad();
  auto loss = cross_entropy_sum(model, batch);
  (loss / 7).backward();
  std::vector<torch::Tensor> values = {loss.detach()};
  for (const auto& item : model.named_parameters())
    if (item.key() != "head") values.push_back(item.value().grad().clone());
  return values;
}

TEST(CrossEntropyTest, AFrozenHeadChangesNeitherLossNorGradients) {
  TinyLm model(1);
  auto batch = sample_batch(300);
  ASSERT_GT(batch.num_loss_tokens(), 1024);  // more than two parts
  auto wanted = loss_and_gradients(model, batch);
  model.named_parameters()["head"].requires_grad_(false);
  auto found = loss_and_gradients(model, batch);
  for (size_t i = 0; i < wanted.size(); ++i)
    EXPECT_TRUE(torch::allclose(found[i], wanted[i], 1e-4, 1e-5)) << i;
  EXPECT_FALSE(model.named_parameters()["head"].grad().defined());
}

TEST(DistillationTest, EqualsTheDivergenceTokenByToken) {
  TinyLm student(1), teacher(2);
  auto batch = sample_batch();
  double expected = 0;
  int64_t count = 0;
  for (int64_t row = 0; row < batch.rows; ++row) {
    auto wanted = row_probabilities(teacher, batch, row),
         found = row_probabilities(student, batch, row);
    const int64_t predicted = batch.lengths[static_cast<size_t>(row)] - 1;
    expected += (wanted * (wanted.log() - found.log())).slice(0, 0, predicted).sum().item<double>();
    count += predicted;
  }
  EXPECT_NEAR(distillation_sum(student, teacher, batch).item<double>(), expected, 1e-4 * expected);
  EXPECT_EQ(distillation(teacher).count(batch), count);
}

TEST(DistillationTest, IsZeroForTheTeacherItselfAndLeavesItsWeightsAlone) {
  TinyLm student(1), teacher(1);
  auto batch = sample_batch();
  auto loss = distillation_sum(student, teacher, batch);
  EXPECT_NEAR(loss.item<double>(), 0.0, 1e-4);
  loss.backward();
  for (const auto& parameter : teacher.parameters()) EXPECT_FALSE(parameter.grad().defined());
}

}  // namespace
}  // namespace deepseek_train::training
