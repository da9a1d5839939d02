// Buckets are sent strictly in their order, whatever order their gradients arrive in, so that all
// ranks make the same sequence of collective calls.
#include "deepseek_train/training/distributed_data_parallel.h"

#include <torch/csrc/autograd/variable.h>

#include "deepseek_train/collectives/torch/tensors.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::training {

struct DistributedDataParallel::Bucket {
  torch::Tensor flat;                    // [elements] float32, in memory shared with the ranks
  std::vector<torch::Tensor> gradients;  // views into `flat`, as the parameters' grad
  size_t num_missing = 0;
  std::shared_ptr<collectives::Work> work;
};

// Called by autograd when a parameter's gradient of this backward pass has been added up.
class DistributedDataParallel::Hook final : public torch::autograd::PostAccumulateGradHook {
 public:
  Hook(DistributedDataParallel& owner, Bucket& bucket) : owner_(owner), bucket_(bucket) {}
  void operator()(const torch::autograd::Variable&) override { owner_.gradient_ready(bucket_); }

 private:
  DistributedDataParallel& owner_;
  Bucket& bucket_;
};

namespace {

// Ranks with other models would wait for each other or add unlike numbers: compare sizes first.
void check_same_parameters(const std::vector<torch::Tensor>& parameters,
                           collectives::Communicator& communicator) {
  std::vector<int64_t> mine = {static_cast<int64_t>(parameters.size()), 0};
  for (const auto& parameter : parameters) mine[1] += parameter.numel();
  std::vector<int64_t> all(2 * static_cast<size_t>(communicator.size()));
  communicator.all_gather(std::span<const int64_t>(mine), std::span(all));
  for (int rank = 0; rank < communicator.size(); ++rank) {
    const auto at = 2 * static_cast<size_t>(rank);
    DST_CHECK(all[at] == mine[0] && all[at + 1] == mine[1], "rank ", rank, " has ", all[at],
              " parameters with ", all[at + 1], " values, rank ", communicator.rank(), " has ",
              mine[0], " with ", mine[1], "; every rank must build the same model");
  }
}

void broadcast_state(torch::nn::Module& module, collectives::Communicator& communicator) {
  torch::NoGradGuard no_grad;
  auto send = [&](torch::Tensor tensor) {
    auto contiguous = tensor.contiguous();
    collectives::broadcast(communicator, contiguous);
    if (!tensor.is_same(contiguous)) tensor.copy_(contiguous);
  };
  for (auto& parameter : module.parameters()) send(parameter);
  for (auto& buffer : module.buffers()) send(buffer);
}

}  // namespace

DistributedDataParallel::DistributedDataParallel(torch::nn::Module& module,
                                                 collectives::Communicator& communicator,
                                                 const DistributedDataParallelOptions& options)
    : communicator_(communicator) {
  for (const auto& parameter : module.parameters())
    if (parameter.requires_grad()) parameters_.push_back(parameter);
  DST_CHECK(!parameters_.empty(),
            "the module has no parameter that requires a gradient: nothing to train");
  check_same_parameters(parameters_, communicator);
  broadcast_state(module, communicator);
  std::vector<torch::Tensor> members;
  int64_t member_bytes = 0;
  for (auto parameter = parameters_.rbegin(); parameter != parameters_.rend(); ++parameter) {
    DST_CHECK(parameter->scalar_type() == at::kFloat, "parameters must be float32 masters, one is ",
              c10::toString(parameter->scalar_type()),
              "; set the model's compute dtype instead of converting it");
    members.push_back(*parameter);
    member_bytes += static_cast<int64_t>(parameter->nbytes());
    if (member_bytes < options.bucket_bytes && parameter + 1 != parameters_.rend()) continue;
    add_bucket(members);
    members.clear();
    member_bytes = 0;
  }
  zero_grad();
}

DistributedDataParallel::~DistributedDataParallel() {
  for (auto& parameter : parameters_) {
    torch::autograd::impl::set_post_acc_grad_hooks(parameter, nullptr);
    parameter.mutable_grad().reset();
  }
}

void DistributedDataParallel::add_bucket(const std::vector<torch::Tensor>& parameters) {
  constexpr int64_t kAlignment = 64 / sizeof(float);  // each gradient begins on a cache line
  auto padded = [](int64_t count) { return (count + kAlignment - 1) / kAlignment * kAlignment; };
  int64_t total = 0;
  for (const auto& parameter : parameters) total += padded(parameter.numel());
  auto bucket = std::make_unique<Bucket>();
  collectives::SharedTensorArena arena(communicator_,
                                       collectives::SharedTensorArena::padded_bytes(total));
  bucket->flat = arena.allocate({total});
  int64_t offset = 0;
  for (auto parameter : parameters) {
    bucket->gradients.push_back(
        bucket->flat.narrow(0, offset, parameter.numel()).view(parameter.sizes()));
    parameter.mutable_grad() = bucket->gradients.back();
    torch::autograd::impl::set_post_acc_grad_hooks(parameter,
                                                   std::make_unique<Hook>(*this, *bucket));
    offset += padded(parameter.numel());
  }
  buckets_.push_back(std::move(bucket));
}

void DistributedDataParallel::zero_grad() {
  num_sent_ = 0;
  for (auto& bucket : buckets_) {
    bucket->flat.zero_();
    bucket->num_missing = bucket->gradients.size();
  }
}

void DistributedDataParallel::set_sync(bool sync) {
  sync_ = sync;
  for (auto& bucket : buckets_) bucket->num_missing = bucket->gradients.size();
}

void DistributedDataParallel::gradient_ready(Bucket& bucket) {
  if (!sync_) return;
  --bucket.num_missing;
  while (num_sent_ < buckets_.size() && buckets_[num_sent_]->num_missing == 0)
    send(*buckets_[num_sent_]);
}

void DistributedDataParallel::send(Bucket& bucket) {
  bucket.work = collectives::all_reduce_async(communicator_, bucket.flat);
  ++num_sent_;
}

void DistributedDataParallel::wait() {
  while (num_sent_ < buckets_.size()) send(*buckets_[num_sent_]);
  for (auto& bucket : buckets_) {
    bucket->work->wait();
    bucket->work.reset();
  }
}

std::vector<torch::Tensor> DistributedDataParallel::flat_gradients() const {
  std::vector<torch::Tensor> flat;
  for (const auto& bucket : buckets_) flat.push_back(bucket->flat);
  return flat;
}

}  // namespace deepseek_train::training
