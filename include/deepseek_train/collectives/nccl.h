// Collectives on memory of GPUs, by NCCL.
#pragma once

#include <memory>
#include <string>

#include "deepseek_train/collectives/communicator.h"

namespace deepseek_train::collectives {

// Streams are cudaStream_t, passed as void* so that this header needs no CUDA.
struct NcclOptions {
  // Of CUDA's numbering; -1: the local rank.
  int device = -1;
  // The caller's stream; null is CUDA's default stream, which libtorch uses unless told otherwise.
  void* stream = nullptr;
};

// The "nccl" backend of make_communicator with its own options. One rank, one GPU. Buffers are
// device memory (of `device`), also in send and recv.
//
// Order with the caller's kernels: the communicator works on a stream of its own. Each call first
// makes it wait for all that the caller's stream holds at that moment, so inputs need no
// synchronisation. run() and the typed functions return when the GPU has finished, so that the
// result may be used from anywhere; start() returns at once, and Work::wait() blocks the host until
// the GPU has finished. make_stream_wait() orders a stream after the call without blocking the
// host; errors are then seen by the next call, or by Work::wait().
//
// Faults: the ranks' processes also form a group of the native backend (options.launch, transport,
// identity), which carries NCCL's unique id and, 50 times a second, what each rank is calling.
// Waits poll the GPU, NCCL's asynchronous errors and that group, so a dead or frozen rank, an
// abort(), different calls on two ranks, and a call that makes no progress for options.timeout all
// end the call as Communicator says, with what each rank was doing. NCCL's kernels are then stopped
// (ncclCommRevoke where the library has it, else ncclCommAbort); shrink() goes on with
// ncclCommShrink or a new NCCL group. It does not finish the interrupted all_reduce.
//
// Operations: sum, avg, min, max, prod of all types but 8-bit floats, which only travel; avg of
// 8-bit integers, and and/or of integers, which NCCL lacks, throw InvalidArgument; bool is 0 or 1.
// The order of sums, the rounding of 16-bit types on the way and min/max of NaN are NCCL's.
// A part of an exchange whose size sender and receiver see differently is not found before the
// timeout.
//
// allocate_shared gives device memory registered with NCCL (ncclMemAlloc, ncclCommRegister), which
// it reads and writes without a copy of its own where the hardware allows.
//
// Libraries are loaded at run time, so that one build also runs where there is no GPU: libnccl.so.2
// and libcudart that are in the process already (libtorch's) come first, then those found when this
// was built, then the system's. So there is never a second NCCL in a process.
//
// Throws InvalidArgument in a build without DST_WITH_NCCL, Unavailable without the libraries, a
// driver or the device.
std::unique_ptr<Communicator> make_nccl_communicator(const CommunicatorOptions& options,
                                                     const NcclOptions& nccl = {});

// Whether this build has the backend. It may still find no library or GPU.
bool has_nccl_backend();

// From now on the stream that calls wait for. Throws InvalidArgument for another backend's
// communicator.
void set_caller_stream(Communicator& communicator, void* stream);

// What is put on the stream from now on starts after the call has ended on the GPU. Throws
// InvalidArgument for another backend's work.
void make_stream_wait(Work& work, void* stream);

}  // namespace deepseek_train::collectives
