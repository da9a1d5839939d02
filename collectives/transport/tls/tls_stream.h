// A connection under TLS.
#pragma once

#include <exception>
#include <memory>
#include <optional>
#include <vector>

#include "collectives/transport/tcp/stream.h"
#include "collectives/transport/tls/record.h"
#include "collectives/transport/tls/tls_handshake.h"

namespace deepseek_train::collectives {

// After OpenSSL's handshake the records are made here: standard ones (RFC 8446), but encrypted
// straight from the caller's buffers and decrypted straight into them, many to a system call. A
// batch counts as sent when the socket has taken all of it.
class TlsStream : public Stream {
 public:
  // `expected_rank` as in TlsHandshake.
  TlsStream(std::shared_ptr<const TlsContext> context, const BIO_METHOD* method, UniqueFd socket,
            TlsHandshake::Role role, int expected_rank);
  // Says that the connection ends here, if the socket takes that at once.
  ~TlsStream() override;

  bool try_handshake() override;
  size_t try_send(ByteSpans parts) override;
  size_t try_recv(std::span<std::byte> bytes) override;
  short wanted_events() const override { return handshake_->wanted_events(); }
  int proven_rank() const override { return handshake_->proven_rank(); }
  const UniqueFd& socket() const override { return socket_; }

 private:
  void seal_batch(ByteSpans parts);
  void seal_record(ContentType type, ByteSpans parts);
  void change_key_if_due();
  // True once the socket has taken all records.
  bool flush();

  // Bytes for the caller out of what has come, or 0 if a record is incomplete.
  size_t take(std::span<std::byte> bytes);
  void handle(ContentType type, std::span<const std::byte> body);
  void handle_alert(std::span<const std::byte> body) const;
  // False if nothing has come.
  bool fill();

  const UniqueFd socket_;
  const uint64_t rekey_records_;
  std::unique_ptr<TlsHandshake> handshake_;
  std::optional<RecordWriter> writer_;
  std::optional<RecordReader> reader_;

  std::vector<std::byte> records_;  // sealed, from num_flushed_ to num_sealed_ not yet taken
  size_t num_sealed_ = 0;
  size_t num_flushed_ = 0;
  size_t batch_bytes_ = 0;        // in clear text, in records_
  bool is_broken_ = false;        // nothing can be sent any more
  bool must_change_key_ = false;  // the other end has asked for it

  std::vector<std::byte> arrived_;  // sealed, from num_taken_ to num_arrived_
  size_t num_taken_ = 0;
  size_t num_arrived_ = 0;
  // In arrived_: what is left of a record's body that the caller had no room for.
  std::span<const std::byte> opened_;
  bool has_received_ = false;
  std::exception_ptr end_;  // why nothing more will come
};

}  // namespace deepseek_train::collectives
