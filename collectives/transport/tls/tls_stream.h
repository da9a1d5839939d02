// A connection under TLS.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "collectives/transport/tcp/stream.h"
#include "collectives/transport/tls/tls_context.h"

namespace deepseek_train::collectives {

// OpenSSL writes its records into a buffer of ours and reads them from another, many of them to a
// system call. (Its own read-ahead moves all that it holds for every record.) A batch counts as
// sent when the socket has taken all of it.
class TlsStream : public Stream {
 public:
  // `expected_rank` of the launch must be at the other end, or any rank for kUnproven.
  static std::unique_ptr<Stream> connect(std::shared_ptr<const TlsContext> context,
                                         const BIO_METHOD* method, UniqueFd socket,
                                         int expected_rank);
  static std::unique_ptr<Stream> accept(std::shared_ptr<const TlsContext> context,
                                        const BIO_METHOD* method, UniqueFd socket);
  // How OpenSSL reaches a TlsStream's socket and buffer. Must outlive the streams.
  static BioMethodHandle make_bio_method();
  // OpenSSL's callback for each certificate of the other end's chain.
  static int verify_certificate(int chain_is_good, X509_STORE_CTX* store);

  bool try_handshake() override;
  size_t try_send(ByteSpans parts) override;
  size_t try_recv(std::span<std::byte> bytes) override;
  short wanted_events() const override;
  int proven_rank() const override { return proven_rank_; }
  const UniqueFd& socket() const override { return socket_; }

 private:
  TlsStream(std::shared_ptr<const TlsContext> context, const BIO_METHOD* method, UniqueFd socket,
            int expected_rank);
  static int write_record(BIO* bio, const char* bytes, size_t count, size_t* written);
  static int read_socket(BIO* bio, char* bytes, size_t count, size_t* received);
  static long control(BIO* bio, int command, long number, void* pointer);

  void encrypt(std::span<const std::byte> bytes);
  // True once the socket has taken all records.
  bool flush();
  // What recv() returned into arrived_; only if that is empty.
  ssize_t fill();
  // True if OpenSSL would find nothing at all to read, which is much cheaper to see from here.
  bool has_nothing_to_read();
  void change_key_if_due();
  bool check_identity(X509* certificate);
  std::string wanted() const;
  [[noreturn]] void throw_error(int result);
  [[noreturn]] void throw_refused(int reason);

  const std::shared_ptr<const TlsContext> context_;
  UniqueFd socket_;
  const int expected_rank_;
  int proven_rank_ = kUnproven;
  bool has_received_ = false;
  bool is_broken_ = false;          // nothing can be sent any more
  std::string refusal_;             // why this end refused the other
  std::vector<std::byte> records_;  // encrypted, from num_flushed_ on not yet taken by the socket
  size_t num_flushed_ = 0;
  size_t batch_bytes_ = 0;          // in clear text, in records_
  std::vector<std::byte> arrived_;  // encrypted, from num_taken_ on not yet taken by OpenSSL
  size_t num_taken_ = 0;
  size_t num_arrived_ = 0;
  uint64_t bytes_under_key_ = 0;
  SslHandle ssl_;  // last: it holds a BIO that points here
};

}  // namespace deepseek_train::collectives
