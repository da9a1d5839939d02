#include "collectives/transport/tls/tls_handshake.h"

#include <openssl/crypto.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <string_view>
#include <utility>

#include "collectives/transport/tcp/stream.h"
#include "collectives/transport/tls/certificate.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

int socket_of(BIO* bio) { return static_cast<const UniqueFd*>(BIO_get_data(bio))->get(); }

TlsHandshake* handshake_of(const SSL* ssl) {
  return static_cast<TlsHandshake*>(SSL_get_app_data(ssl));
}

TrafficKey::Secret from_hex(std::string_view text) {
  TrafficKey::Secret secret(text.size() / 2);
  for (size_t i = 0; i < secret.size(); ++i)
    secret[i] =
        static_cast<std::byte>(OPENSSL_hexchar2int(static_cast<unsigned char>(text[2 * i])) << 4 |
                               OPENSSL_hexchar2int(static_cast<unsigned char>(text[2 * i + 1])));
  return secret;
}

}  // namespace

// OpenSSL's own socket BIO would raise SIGPIPE.
BioMethodHandle TlsHandshake::make_bio_method() {
  BioMethodHandle method(BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "rank socket"));
  DST_CHECK_AS(Internal, method, "BIO_meth_new: ", openssl_error());
  BIO_meth_set_write_ex(method.get(), &TlsHandshake::write_socket);
  BIO_meth_set_read_ex(method.get(), &TlsHandshake::read_socket);
  BIO_meth_set_ctrl(method.get(), &TlsHandshake::control);
  return method;
}

int TlsHandshake::write_socket(BIO* bio, const char* bytes, size_t count, size_t* written) {
  BIO_clear_retry_flags(bio);
  const ssize_t sent = ::send(socket_of(bio), bytes, count, MSG_NOSIGNAL);
  if (sent < 0 && would_block()) BIO_set_retry_write(bio);
  *written = sent > 0 ? static_cast<size_t>(sent) : 0;
  return sent > 0;
}

int TlsHandshake::read_socket(BIO* bio, char* bytes, size_t count, size_t* received) {
  BIO_clear_retry_flags(bio);
  const ssize_t result = ::recv(socket_of(bio), bytes, count, 0);
  if (result < 0 && would_block()) BIO_set_retry_read(bio);
  *received = result > 0 ? static_cast<size_t>(result) : 0;
  return result > 0;
}

long TlsHandshake::control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH; }

TlsHandshake::TlsHandshake(std::shared_ptr<const TlsContext> context, const BIO_METHOD* method,
                           const UniqueFd& socket, Role role, int expected_rank)
    : context_(std::move(context)),
      role_(role),
      expected_rank_(expected_rank),
      proven_rank_(Stream::kUnproven),
      ssl_(SSL_new(context_->get())) {
  BIO* bio = BIO_new(method);
  DST_CHECK_AS(Internal, ssl_ && bio, "SSL_new: ", openssl_error());
  BIO_set_data(bio, const_cast<UniqueFd*>(&socket));
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_app_data(ssl_.get(), this);
  if (role == Role::kConnecting)
    SSL_set_connect_state(ssl_.get());
  else
    SSL_set_accept_state(ssl_.get());
}

TlsHandshake::~TlsHandshake() {
  wipe(client_secret_);
  wipe(server_secret_);
}

int TlsHandshake::verify_certificate(int chain_is_good, X509_STORE_CTX* store) {
  auto* ssl =
      static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  TlsHandshake* self = handshake_of(ssl);
  X509* certificate = X509_STORE_CTX_get_current_cert(store);
  if (!chain_is_good) {
    self->refusal_ =
        concat("its certificate is refused (",
               X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)), "): found ",
               certificate ? describe(certificate) : "none", ", wanted ", self->wanted(),
               ", valid now and signed by an authority of the trust bundle");
    return 0;
  }
  if (X509_STORE_CTX_get_error_depth(store) > 0 || self->check_identity(certificate)) return 1;
  self->refusal_ = concat("its certificate is another's: found ", describe(certificate),
                          ", wanted ", self->wanted());
  X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
  return 0;
}

// "CLIENT_TRAFFIC_SECRET_0 <the client's random> <secret>", in hexadecimal digits: the format of
// NSS key logs. It is the only way in which OpenSSL gives traffic secrets; the line stays in this
// process.
void TlsHandshake::take_secret(const SSL* ssl, const char* text) {
  const std::string_view line = text;
  TlsHandshake* self = handshake_of(ssl);
  const std::string_view digits = line.substr(line.rfind(' ') + 1);
  if (line.starts_with("CLIENT_TRAFFIC_SECRET_0 ")) self->client_secret_ = from_hex(digits);
  if (line.starts_with("SERVER_TRAFFIC_SECRET_0 ")) self->server_secret_ = from_hex(digits);
}

bool TlsHandshake::check_identity(X509* certificate) {
  const auto names = uri_names(certificate);
  if (names.size() != 1) return false;
  const TlsOptions& options = context_->options();
  const int rank = rank_in(names[0], options.identity.job);
  if (rank < 0 || rank >= options.size) return false;
  if (expected_rank_ != Stream::kUnproven && rank != expected_rank_) return false;
  proven_rank_ = rank;
  return true;
}

std::string TlsHandshake::wanted() const {
  const TlsOptions& options = context_->options();
  if (expected_rank_ != Stream::kUnproven)
    return concat(options.identity.job, "/rank/", expected_rank_);
  return concat(options.identity.job, "/rank/0 to ", options.size - 1);
}

bool TlsHandshake::try_finish() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_.get());
  if (result == 1) {
    DST_CHECK_AS(Internal, !SSL_has_pending(ssl_.get()), "OpenSSL has read beyond the handshake");
    return true;
  }
  const int error = SSL_get_error(ssl_.get(), result);
  if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) throw_error(result);
  return false;
}

short TlsHandshake::wanted_events() const { return SSL_want_write(ssl_.get()) ? POLLOUT : POLLIN; }

TlsHandshake::Records TlsHandshake::make_records() {
  const CipherSuite* suite =
      find_cipher_suite(SSL_CIPHER_get_name(SSL_get_current_cipher(ssl_.get())));
  DST_CHECK_AS(Internal, suite, "the handshake chose a cipher suite that was not offered");
  ssl_.reset();
  TrafficKey client(*suite, std::exchange(client_secret_, {}));
  TrafficKey server(*suite, std::exchange(server_secret_, {}));
  if (role_ == Role::kConnecting)
    return {RecordWriter(std::move(client)), RecordReader(std::move(server))};
  return {RecordWriter(std::move(server)), RecordReader(std::move(client))};
}

void TlsHandshake::throw_error(int result) {
  const int error = SSL_get_error(ssl_.get(), result);
  const int reason = ERR_GET_REASON(ERR_peek_last_error());
  if (!refusal_.empty()) throw PermissionDenied(refusal_);
  if (error == SSL_ERROR_ZERO_RETURN || error == SSL_ERROR_SYSCALL ||
      reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
    throw Unavailable("connection closed during the TLS handshake");
  if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
    throw PermissionDenied(concat("it showed no certificate; wanted ", wanted()));
  const std::string text = openssl_error();
  if (reason >= SSL_AD_REASON_OFFSET) throw_refused(text);
  throw PermissionDenied(
      concat("the TLS handshake failed (", text, "); does the other end use TLS 1.3?"));
}

void TlsHandshake::throw_refused_by_alert(int alert) const {
  throw_refused(SSL_alert_desc_string_long(alert));
}

void TlsHandshake::throw_refused(const std::string& text) const {
  const TlsOptions& options = context_->options();
  throw PermissionDenied(
      concat("the other end refused this rank's certificate (", text, "): it says ",
             context_->own_certificate(), ", wanted ", options.identity.job, "/rank/", options.rank,
             ", valid now and signed by an authority that the other end trusts"));
}

}  // namespace deepseek_train::collectives
