// MPI's own life, and its errors as exceptions.
#pragma once

#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <memory>

namespace deepseek_train::collectives {

// Throws Unavailable with MPI's own text if `code` is an error.
void check_mpi(int code, const char* what);

// MPI is one per process. The first session initialises it unless the program has; the last one
// finalises it if we did.
class MpiSession {
 public:
  static std::shared_ptr<MpiSession> acquire();
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

 private:
  MpiSession();
  bool is_ours_ = false;
};

// The one owner of a communicator, an operation, a datatype.
class UniqueMpiComm {
 public:
  explicit UniqueMpiComm(MPI_Comm comm) : comm_(comm) {}
  ~UniqueMpiComm();
  UniqueMpiComm(const UniqueMpiComm&) = delete;
  UniqueMpiComm& operator=(const UniqueMpiComm&) = delete;
  MPI_Comm get() const { return comm_; }

 private:
  MPI_Comm comm_;
};

class UniqueMpiOp {
 public:
  explicit UniqueMpiOp(MPI_User_function* function);
  ~UniqueMpiOp();
  UniqueMpiOp(const UniqueMpiOp&) = delete;
  UniqueMpiOp& operator=(const UniqueMpiOp&) = delete;
  MPI_Op get() const { return op_; }

 private:
  MPI_Op op_ = MPI_OP_NULL;
};

}  // namespace deepseek_train::collectives
