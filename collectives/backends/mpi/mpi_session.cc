#include "collectives/backends/mpi/mpi_session.h"

#include <mutex>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"

namespace deepseek_train::collectives {
namespace {

bool is_finalized() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  return finalized != 0;
}

}  // namespace

void check_mpi(int code, const char* what) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw Unavailable(concat(what, ": ", std::string_view(text, length)));
}

std::shared_ptr<MpiSession> MpiSession::acquire() {
  // MPI itself is the process-wide state; this only remembers whether somebody of ours holds it.
  static std::mutex mutex;
  static std::weak_ptr<MpiSession> current;
  std::lock_guard lock(mutex);
  auto session = current.lock();
  if (!session) {
    session.reset(new MpiSession());
    current = session;
  }
  return session;
}

MpiSession::MpiSession() {
  DST_CHECK_AS(Unavailable, !is_finalized(),
               "MPI was finalised before; it cannot start twice in one process, so keep one MPI "
               "communicator open");
  int initialized = 0;
  int provided = MPI_THREAD_SINGLE;
  MPI_Initialized(&initialized);
  if (initialized) {
    MPI_Query_thread(&provided);
  } else {
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread");
    is_ours_ = true;
  }
  if (provided < MPI_THREAD_MULTIPLE) {
    if (is_ours_) MPI_Finalize();
    throw Unavailable(
        "this MPI gives no MPI_THREAD_MULTIPLE; initialise it with MPI_Init_thread, or use backend "
        "\"native\"");
  }
}

MpiSession::~MpiSession() {
  if (is_ours_ && !is_finalized()) MPI_Finalize();
}

UniqueMpiComm::~UniqueMpiComm() {
  if (comm_ != MPI_COMM_NULL && !is_finalized()) MPI_Comm_free(&comm_);
}

UniqueMpiOp::UniqueMpiOp(MPI_User_function* function) {
  check_mpi(MPI_Op_create(function, 1, &op_), "MPI_Op_create");
}

UniqueMpiOp::~UniqueMpiOp() {
  if (!is_finalized()) MPI_Op_free(&op_);
}

}  // namespace deepseek_train::collectives
