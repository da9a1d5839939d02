// The chunk loop of ShmTransport, for its source files.
#pragma once

#include "collectives/transport/shm/shm_transport.h"

namespace deepseek_train::collectives {

inline size_t num_chunks_of(size_t count, size_t chunk) { return (count + chunk - 1) / chunk; }

template <typename Fill, typename Drain>
void ShmTransport::run_in_chunks(const CollectiveCall& call, size_t num_chunks, const Fill& fill,
                                 const Drain& drain) {
  if (num_chunks > 0) fill(0);
  open_call(call, {});
  await_same_call();
  drain_chunks(num_chunks, fill, drain);
}

template <typename Fill, typename Drain>
void ShmTransport::drain_chunks(size_t num_chunks, const Fill& fill, const Drain& drain) {
  uint32_t filled_step = open_step_;
  for (size_t j = 0; j < num_chunks; ++j) {
    const uint32_t this_step = filled_step;
    if (j + 1 < num_chunks) {
      fill(j + 1);
      filled_step = group_.advance();
    }
    group_.wait_for_all(this_step);
    drain(j);
  }
  next_chunk_ += num_chunks;
}

}  // namespace deepseek_train::collectives
