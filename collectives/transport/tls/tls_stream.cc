#include "collectives/transport/tls/tls_stream.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

// Clear text of one batch: three full records, which stay in the core's nearest cache through the
// copies on the way.
constexpr size_t kBatchBytes = 48 << 10;
// Most that one try_recv decrypts, so that sending gets its turn.
constexpr size_t kReceiveBytes = 256 << 10;
// Of one system call, encrypted.
constexpr size_t kReadBytes = 48 << 10;

bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

TlsStream* stream_of(BIO* bio) { return static_cast<TlsStream*>(BIO_get_data(bio)); }

}  // namespace

BioMethodHandle TlsStream::make_bio_method() {
  BioMethodHandle method(BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "rank stream"));
  DST_CHECK_AS(Internal, method, "BIO_meth_new: ", openssl_error());
  BIO_meth_set_write_ex(method.get(), &TlsStream::write_record);
  BIO_meth_set_read_ex(method.get(), &TlsStream::read_socket);
  BIO_meth_set_ctrl(method.get(), &TlsStream::control);
  return method;
}

int TlsStream::write_record(BIO* bio, const char* bytes, size_t count, size_t* written) {
  auto& records = stream_of(bio)->records_;
  const auto* data = reinterpret_cast<const std::byte*>(bytes);
  records.insert(records.end(), data, data + count);
  *written = count;
  return 1;
}

int TlsStream::read_socket(BIO* bio, char* bytes, size_t count, size_t* received) {
  TlsStream& stream = *stream_of(bio);
  BIO_clear_retry_flags(bio);
  *received = 0;
  if (stream.num_taken_ == stream.num_arrived_) {
    const ssize_t result = stream.fill();
    if (result < 0 && would_block()) BIO_set_retry_read(bio);
    if (result <= 0) return 0;
  }
  *received = std::min(count, stream.num_arrived_ - stream.num_taken_);
  std::memcpy(bytes, stream.arrived_.data() + stream.num_taken_, *received);
  stream.num_taken_ += *received;
  return 1;
}

ssize_t TlsStream::fill() {
  const ssize_t received = ::recv(socket_.get(), arrived_.data(), arrived_.size(), 0);
  num_taken_ = 0;
  num_arrived_ = static_cast<size_t>(std::max<ssize_t>(received, 0));
  return received;
}

bool TlsStream::has_nothing_to_read() {
  if (num_taken_ < num_arrived_ || SSL_pending(ssl_.get()) > 0) return false;
  return fill() < 0 && would_block();
}

long TlsStream::control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH; }

std::unique_ptr<Stream> TlsStream::connect(std::shared_ptr<const TlsContext> context,
                                           const BIO_METHOD* method, UniqueFd socket,
                                           int expected_rank) {
  std::unique_ptr<TlsStream> stream(
      new TlsStream(std::move(context), method, std::move(socket), expected_rank));
  SSL_set_connect_state(stream->ssl_.get());
  return stream;
}

std::unique_ptr<Stream> TlsStream::accept(std::shared_ptr<const TlsContext> context,
                                          const BIO_METHOD* method, UniqueFd socket) {
  std::unique_ptr<TlsStream> stream(
      new TlsStream(std::move(context), method, std::move(socket), kUnproven));
  SSL_set_accept_state(stream->ssl_.get());
  return stream;
}

TlsStream::TlsStream(std::shared_ptr<const TlsContext> context, const BIO_METHOD* method,
                     UniqueFd socket, int expected_rank)
    : context_(std::move(context)),
      socket_(std::move(socket)),
      expected_rank_(expected_rank),
      arrived_(kReadBytes),
      ssl_(SSL_new(context_->get())) {
  BIO* bio = BIO_new(method);
  DST_CHECK_AS(Internal, ssl_ && bio, "SSL_new: ", openssl_error());
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_app_data(ssl_.get(), this);
}

int TlsStream::verify_certificate(int chain_is_good, X509_STORE_CTX* store) {
  auto* ssl =
      static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  auto* stream = static_cast<TlsStream*>(SSL_get_app_data(ssl));
  X509* certificate = X509_STORE_CTX_get_current_cert(store);
  if (!chain_is_good) {
    stream->refusal_ =
        concat("its certificate is refused (",
               X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)), "): found ",
               certificate ? describe(certificate) : "none", ", wanted ", stream->wanted(),
               ", valid now and signed by an authority of the trust bundle");
    return 0;
  }
  if (X509_STORE_CTX_get_error_depth(store) > 0 || stream->check_identity(certificate)) return 1;
  stream->refusal_ = concat("its certificate is another's: found ", describe(certificate),
                            ", wanted ", stream->wanted());
  X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
  return 0;
}

bool TlsStream::check_identity(X509* certificate) {
  const auto names = uri_names(certificate);
  if (names.size() != 1) return false;
  const TlsOptions& options = context_->options();
  const int rank = rank_in(names[0], options.identity.job);
  if (rank < 0 || rank >= options.size) return false;
  if (expected_rank_ != kUnproven && rank != expected_rank_) return false;
  proven_rank_ = rank;
  return true;
}

std::string TlsStream::wanted() const {
  const TlsOptions& options = context_->options();
  if (expected_rank_ != kUnproven) return concat(options.identity.job, "/rank/", expected_rank_);
  return concat(options.identity.job, "/rank/0 to ", options.size - 1);
}

bool TlsStream::try_handshake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_.get());
  if (result == 1) return flush();
  const int error = SSL_get_error(ssl_.get(), result);
  // An alert of ours leaves before the connection ends.
  flush();
  if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) throw_error(result);
  return false;
}

short TlsStream::wanted_events() const {
  return static_cast<short>(POLLIN | (records_.empty() ? 0 : POLLOUT));
}

size_t TlsStream::try_send(ByteSpans parts) {
  DST_CHECK_AS(Unavailable, !is_broken_, "connection closed by the other end");
  if (batch_bytes_ == 0) {
    change_key_if_due();
    for (auto part : parts) {
      part = part.first(std::min(part.size(), kBatchBytes - batch_bytes_));
      encrypt(part);
      batch_bytes_ += part.size();
      if (batch_bytes_ == kBatchBytes) break;
    }
  }
  return flush() ? std::exchange(batch_bytes_, 0) : 0;
}

void TlsStream::encrypt(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  if (ERR_peek_error() != 0) ERR_clear_error();
  const int result = SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()));
  if (result <= 0) throw_error(result);
  bytes_under_key_ += bytes.size();
}

void TlsStream::change_key_if_due() {
  if (bytes_under_key_ < context_->options().rekey_bytes) return;
  bytes_under_key_ = 0;
  DST_CHECK_AS(Internal, SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED) == 1,
               "TLS key update: ", openssl_error());
}

bool TlsStream::flush() {
  while (num_flushed_ < records_.size()) {
    const ssize_t sent = ::send(socket_.get(), records_.data() + num_flushed_,
                                records_.size() - num_flushed_, MSG_NOSIGNAL);
    if (sent < 0 && would_block()) return false;
    is_broken_ = sent < 0;
    if (is_broken_) break;
    num_flushed_ += static_cast<size_t>(sent);
  }
  records_.clear();
  num_flushed_ = 0;
  return true;
}

size_t TlsStream::try_recv(std::span<std::byte> bytes) {
  size_t total = 0;
  const size_t limit = std::min(bytes.size(), kReceiveBytes);
  if (ERR_peek_error() != 0) ERR_clear_error();
  while (total < limit && !has_nothing_to_read()) {
    const int result = SSL_read(ssl_.get(), bytes.data() + total, static_cast<int>(limit - total));
    if (result <= 0) {
      const int error = SSL_get_error(ssl_.get(), result);
      if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE || total > 0) break;
      throw_error(result);
    }
    has_received_ = true;
    total += static_cast<size_t>(result);
  }
  return total;
}

void TlsStream::throw_error(int result) {
  const int error = SSL_get_error(ssl_.get(), result);
  const unsigned long code = ERR_peek_last_error();
  if (!refusal_.empty()) throw PermissionDenied(refusal_);
  const bool is_end = error == SSL_ERROR_ZERO_RETURN || error == SSL_ERROR_SYSCALL ||
                      ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
  if (is_end || has_received_)
    throw Unavailable(
        concat("connection closed", is_end ? "" : ": ", is_end ? "" : openssl_error()));
  throw_refused(ERR_GET_REASON(code));
}

void TlsStream::throw_refused(int reason) {
  const std::string text = openssl_error();
  if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
    throw PermissionDenied(concat("it showed no certificate; wanted ", wanted()));
  const TlsOptions& options = context_->options();
  DST_CHECK_AS(PermissionDenied, reason < SSL_AD_REASON_OFFSET,
               "the other end refused this rank's certificate (", text, "): it says ",
               context_->own_certificate(), ", wanted ", options.identity.job, "/rank/",
               options.rank, ", valid now and signed by an authority that the other end trusts");
  throw PermissionDenied(
      concat("the TLS handshake failed (", text, "); does the other end use TLS 1.3?"));
}

}  // namespace deepseek_train::collectives
