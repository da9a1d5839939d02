// Sleeping on a word of shared memory (Linux futex, between processes).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace deepseek_train::collectives {

// Sleeps until woken, until the word's lower half no longer holds `expected`, or until `limit` has
// passed. May return early.
void futex_wait(std::atomic<uint64_t>& word, uint32_t expected, std::chrono::nanoseconds limit);

// Wakes every sleeper on the word.
void futex_wake_all(std::atomic<uint64_t>& word);

}  // namespace deepseek_train::collectives
