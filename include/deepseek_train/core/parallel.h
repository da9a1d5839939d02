// Independent pieces of work on several threads.
#pragma once

#include <cstdint>
#include <functional>

namespace deepseek_train {

// Calls work(0) ... work(count - 1), each once, from up to `num_threads` threads (the calling one
// among them); a thread takes the next piece when it is done with one. Returns when all are done.
// After an exception no new piece begins; the first one is thrown again here. Starting a thread
// takes tens of microseconds: make pieces long.
void parallel_for(int64_t count, int num_threads, const std::function<void(int64_t)>& work);

}  // namespace deepseek_train
