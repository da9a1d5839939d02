// A call's signature where other ranks may read it at any time.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>

#include "collectives/transport/call_signature.h"

namespace deepseek_train::collectives {

// Word by word, so that a reader who comes too early gets a mixture (describe() takes any bytes),
// never undefined behaviour. Order with other memory is the affair of the steps around it.
class SharedSignature {
 public:
  void store(const CallSignature& signature) {
    const auto words = std::bit_cast<Words>(signature);
    for (int i = 0; i < kNumWords; ++i) words_[i].store(words.w[i], std::memory_order_relaxed);
  }
  CallSignature load() const {
    Words words;
    for (int i = 0; i < kNumWords; ++i) words.w[i] = words_[i].load(std::memory_order_relaxed);
    return std::bit_cast<CallSignature>(words);
  }

 private:
  static constexpr int kNumWords = sizeof(CallSignature) / sizeof(uint64_t);
  struct Words {
    uint64_t w[kNumWords];
  };
  std::atomic<uint64_t> words_[kNumWords];
};
static_assert(sizeof(SharedSignature) == sizeof(CallSignature));

}  // namespace deepseek_train::collectives
