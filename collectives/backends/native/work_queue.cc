#include "collectives/backends/native/work_queue.h"

#include <chrono>
#include <exception>
#include <future>

namespace deepseek_train::collectives {

class QueuedWork : public Work {
 public:
  explicit QueuedWork(std::function<void()> task)
      : task_(std::move(task)), done_(promise_.get_future()) {}

  // Runs the task, then gives its captures back; its end is not seen before publish().
  void execute() noexcept {
    try {
      task_();
    } catch (...) {
      error_ = std::current_exception();
    }
    task_ = nullptr;
  }
  void publish() {
    if (error_)
      promise_.set_exception(error_);
    else
      promise_.set_value();
  }

  bool is_completed() override {
    return done_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  }
  // Unbounded by itself: the task is bounded, and so are those before it.
  void wait() override { std::shared_future<void>(done_).get(); }

 private:
  std::function<void()> task_;
  std::exception_ptr error_;
  std::promise<void> promise_;
  std::shared_future<void> done_;
};

WorkQueue::~WorkQueue() {
  {
    std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::shared_ptr<Work> WorkQueue::submit(std::function<void()> task) {
  auto work = std::make_shared<QueuedWork>(std::move(task));
  {
    std::lock_guard lock(mutex_);
    tasks_.push_back(work);
    if (!thread_.joinable()) thread_ = std::thread([this] { make_progress(); });
  }
  changed_.notify_all();
  return work;
}

void WorkQueue::run(const std::function<void()>& task) {
  {
    std::unique_lock lock(mutex_);
    if (is_busy_ || !tasks_.empty()) {
      lock.unlock();
      return submit(task)->wait();
    }
    is_busy_ = true;
  }
  struct Idle {
    WorkQueue& queue;
    ~Idle() {
      std::lock_guard lock(queue.mutex_);
      queue.is_busy_ = false;
      if (!queue.tasks_.empty()) queue.changed_.notify_all();
    }
  } idle_afterwards{*this};
  task();
}

bool WorkQueue::is_idle() const {
  std::lock_guard lock(mutex_);
  return !is_busy_ && tasks_.empty();
}

// On stopping, what is queued still runs, so that every Work ends; after an abort each task fails
// at once.
void WorkQueue::make_progress() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] {
      return (is_stopping_ && tasks_.empty()) || (!tasks_.empty() && !is_busy_);
    });
    if (tasks_.empty()) return;
    const auto work = tasks_.front();
    tasks_.pop_front();
    is_busy_ = true;
    lock.unlock();
    work->execute();
    lock.lock();
    is_busy_ = false;
    // After the queue is idle again: whoever has waited for its last work finds it so.
    work->publish();
  }
}

}  // namespace deepseek_train::collectives
