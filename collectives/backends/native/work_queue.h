// Calls in the order in which they were made, on the caller's thread where possible.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "deepseek_train/collectives/work.h"

namespace deepseek_train::collectives {

class QueuedWork;

// Thread-safe. The progress thread starts with the first asynchronous call.
class WorkQueue {
 public:
  WorkQueue() = default;
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;
  // Every task must end by itself soon; see is_idle().
  ~WorkQueue();

  // Queues the task for the progress thread.
  std::shared_ptr<Work> submit(std::function<void()> task);
  // Runs the task after all earlier ones and returns when it is done: at once and on this thread if
  // there are none.
  void run(const std::function<void()>& task);
  bool is_idle() const;

 private:
  void make_progress();

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<QueuedWork>> tasks_;
  bool is_busy_ = false;  // a task is running, on whichever thread
  bool is_stopping_ = false;
  std::thread thread_;
};

}  // namespace deepseek_train::collectives
