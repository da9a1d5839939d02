// Expert parallelism: rows of tokens travel to the ranks that hold their experts, and back.
#pragma once

#include <torch/torch.h>

#include <utility>
#include <vector>

#include "deepseek_train/collectives/communicator.h"

namespace deepseek_train::models {

// The experts [first, last) of `num_experts` that this rank holds; all of them without ranks.
// Throws InvalidArgument unless the ranks share them evenly.
std::pair<int64_t, int64_t> expert_shard(const collectives::Communicator* ranks,
                                         int64_t num_experts);

// The exchange of one layer in one forward pass. Differentiable: the backward of one direction is
// the other. Collective, all of it. Rows arrive in the order of experts, and for one expert in the
// order of ranks and of their rows: where rank r's tokens follow rank r - 1's, an expert sees the
// very matrix that it would see on one rank, and gives the same bits.
class ExpertExchange {
 public:
  // `counts` [X]: this rank's rows for each of all experts. Exchanges the counts.
  ExpertExchange(collectives::Communicator& ranks, const std::vector<int64_t>& counts,
                 torch::Device device);

  // This rank's rows [sum of counts, D] in the order of experts -> all ranks' rows for the experts
  // here, [sum of local_counts, D] in the order of experts.
  torch::Tensor hand_out(const torch::Tensor& rows) const;
  // The way back.
  torch::Tensor give_back(const torch::Tensor& rows) const;
  const std::vector<int64_t>& local_counts() const { return local_counts_; }

 private:
  collectives::Communicator& ranks_;
  std::vector<int64_t> sent_, received_;  // rows to and from each rank
  std::vector<int64_t> local_counts_;     // rows for each expert here
  torch::Tensor by_expert_, by_rank_;     // permutations of the received rows
};

}  // namespace deepseek_train::models
