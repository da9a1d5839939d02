// A collective that is under way.
#pragma once

namespace deepseek_train::collectives {

// Handle of an asynchronous call. The caller's buffers belong to the call until it has completed.
// Thread-safe. Dropping the handle does not cancel the call.
class Work {
 public:
  virtual ~Work() = default;

  // True once the call has ended, well or badly. Never blocks, never throws.
  virtual bool is_completed() = 0;

  // Blocks until the call has ended and rethrows its error. May be called more than once. Bounded:
  // the call itself gives up after the communicator's timeout without progress, and the failure of
  // a call fails those queued behind it.
  virtual void wait() = 0;
};

}  // namespace deepseek_train::collectives
