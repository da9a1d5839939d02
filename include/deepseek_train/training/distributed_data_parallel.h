// Data-parallel gradients: buckets that are all-reduced while the backward pass is still running.
// After Li et al. 2020, "PyTorch Distributed" (arXiv 2006.15704).
#pragma once

#include <torch/torch.h>

#include <memory>
#include <vector>

#include "deepseek_train/collectives/communicator.h"

namespace deepseek_train::training {

struct DistributedDataParallelOptions {
  // A bucket is sent when all its gradients are there. Larger buckets cost less per byte, smaller
  // ones start sooner.
  int64_t bucket_bytes = 32 << 20;
};

// Gives every parameter that requires one a gradient which is a view into a flat bucket, in reverse
// order of registration (about the order backward makes them), and sums the buckets over the ranks.
// The buckets lie in memory shared by the host's ranks where the communicator offers it, so nothing
// is staged. One thread; collective: every rank makes it with the same parameters and calls the
// same methods in the same order.
//
//   ddp.zero_grad();
//   ddp.set_sync(last_micro_batch);
//   (cross_entropy_sum(model, batch) / global_tokens).backward();
//   ddp.wait();            // now every rank holds the same sums in parameter.grad()
class DistributedDataParallel {
 public:
  // Broadcasts rank 0's parameters and buffers. Throws InvalidArgument where ranks differ in number
  // or size of parameters. Borrows the communicator.
  DistributedDataParallel(torch::nn::Module& module, collectives::Communicator& communicator,
                          const DistributedDataParallelOptions& options = {});
  ~DistributedDataParallel();
  DistributedDataParallel(const DistributedDataParallel&) = delete;
  DistributedDataParallel& operator=(const DistributedDataParallel&) = delete;

  void zero_grad();
  // Whether the next backward pass sends its buckets; false while gradients are only accumulated.
  void set_sync(bool sync);
  // Sends the buckets that backward did not reach, waits for all. Throws what the collectives
  // throw.
  void wait();
  // The flat gradients, float32, one a bucket; padding between parameters is zero.
  std::vector<torch::Tensor> flat_gradients() const;

 private:
  struct Bucket;
  class Hook;
  void add_bucket(const std::vector<torch::Tensor>& parameters);
  void gradient_ready(Bucket& bucket);
  void send(Bucket& bucket);

  collectives::Communicator& communicator_;
  std::vector<torch::Tensor> parameters_;
  std::vector<std::unique_ptr<Bucket>> buckets_;
  size_t num_sent_ = 0;
  bool sync_ = true;
};

}  // namespace deepseek_train::training
