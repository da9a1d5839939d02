#include "deepseek_train/core/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "deepseek_train/core/error.h"

namespace deepseek_train {
namespace {

class Pieces {
 public:
  Pieces(int64_t count, const std::function<void(int64_t)>& work) : count_(count), work_(work) {}

  void work_until_done() noexcept {
    try {
      for (int64_t piece = next_++; piece < count_; piece = next_++) work_(piece);
    } catch (...) {
      next_ = count_;
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }
  // After all threads are joined.
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const int64_t count_;
  const std::function<void(int64_t)>& work_;
  std::atomic<int64_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr error_;
};

// A process at its limit of threads works with those it has.
bool try_to_add(std::vector<std::jthread>& threads, Pieces& pieces) {
  try {
    threads.emplace_back([&pieces] { pieces.work_until_done(); });
    return true;
  } catch (const std::system_error&) {
    return false;
  }
}

}  // namespace

void parallel_for(int64_t count, int num_threads, const std::function<void(int64_t)>& work) {
  DST_CHECK(num_threads >= 1, "parallel_for was given ", num_threads,
            " threads, wanted at least 1");
  Pieces pieces(count, work);
  {
    std::vector<std::jthread> others;
    for (int64_t i = 1; i < std::min<int64_t>(num_threads, count); ++i)
      if (!try_to_add(others, pieces)) break;
    pieces.work_until_done();
  }
  pieces.rethrow();
}

}  // namespace deepseek_train
