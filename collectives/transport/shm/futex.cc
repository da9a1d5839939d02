#include "collectives/transport/shm/futex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>
#include <climits>
#include <ctime>

namespace deepseek_train::collectives {

// The kernel compares 32 bits at the word's address: its lower half.
static_assert(sizeof(std::atomic<uint64_t>) == sizeof(uint64_t) &&
              std::atomic<uint64_t>::is_always_lock_free &&
              std::endian::native == std::endian::little);

void futex_wait(std::atomic<uint64_t>& word, uint32_t expected, std::chrono::nanoseconds limit) {
  const timespec relative{.tv_sec = static_cast<time_t>(limit.count() / 1'000'000'000),
                          .tv_nsec = static_cast<long>(limit.count() % 1'000'000'000)};
  ::syscall(SYS_futex, &word, FUTEX_WAIT, expected, &relative, nullptr, 0);
}

void futex_wake_all(std::atomic<uint64_t>& word) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace deepseek_train::collectives
