// How two ranks prove to each other who they are.
#pragma once

#include <memory>
#include <string>

#include "collectives/transport/tls/record.h"
#include "collectives/transport/tls/tls_context.h"
#include "deepseek_train/core/unique_fd.h"

namespace deepseek_train::collectives {

// OpenSSL's handshake on a socket, up to the secrets for application data. It reads not a byte
// further, so that the socket can be handed on.
class TlsHandshake {
 public:
  enum class Role { kConnecting, kAccepting };

  // `expected_rank` of the launch must be at the other end, or any rank for Stream::kUnproven. The
  // socket must outlive the handshake.
  TlsHandshake(std::shared_ptr<const TlsContext> context, const BIO_METHOD* method,
               const UniqueFd& socket, Role role, int expected_rank);
  ~TlsHandshake();

  // How OpenSSL reaches the socket. Must outlive the handshakes.
  static BioMethodHandle make_bio_method();
  // OpenSSL's callbacks: for each certificate of the other end's chain, and for each secret.
  static int verify_certificate(int chain_is_good, X509_STORE_CTX* store);
  static void take_secret(const SSL* ssl, const char* line);

  // True once it is over. Throws PermissionDenied when either end refuses the other.
  bool try_finish();
  // What poll() should wait for until then.
  short wanted_events() const;
  int proven_rank() const { return proven_rank_; }

  struct Records {
    RecordWriter writer;
    RecordReader reader;
  };
  // After the end, once; OpenSSL's part is given back.
  Records make_records();
  // The other end's last word, should it refuse after this end has finished.
  [[noreturn]] void throw_refused_by_alert(int alert) const;

 private:
  static int write_socket(BIO* bio, const char* bytes, size_t count, size_t* written);
  static int read_socket(BIO* bio, char* bytes, size_t count, size_t* received);
  static long control(BIO* bio, int command, long number, void* pointer);

  bool check_identity(X509* certificate);
  std::string wanted() const;
  [[noreturn]] void throw_error(int result);
  [[noreturn]] void throw_refused(const std::string& text) const;

  const std::shared_ptr<const TlsContext> context_;
  const Role role_;
  const int expected_rank_;
  int proven_rank_;
  std::string refusal_;  // why this end refused the other
  TrafficKey::Secret client_secret_, server_secret_;
  SslHandle ssl_;  // last: it holds a BIO that points to the socket
};

}  // namespace deepseek_train::collectives
