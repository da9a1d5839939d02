#include "collectives/transport/tls/tls_context.h"

#include <openssl/pem.h>

#include <algorithm>

#include "collectives/transport/tls/tls_handshake.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

BioHandle bio_over(const std::string& text) {
  return BioHandle(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

std::vector<CertificateHandle> read_certificates(const std::string& pem) {
  const BioHandle bio = bio_over(pem);
  std::vector<CertificateHandle> certificates;
  while (X509* certificate = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr))
    certificates.emplace_back(certificate);
  ERR_clear_error();  // the end of the text counts as an error
  return certificates;
}

void check_cipher_suites(std::string_view names) {
  for (bool is_last = false; !is_last;) {
    const size_t end = names.find(':');
    is_last = end == std::string_view::npos;
    const std::string_view name = names.substr(0, end);
    DST_CHECK(find_cipher_suite(name), "TLS 1.3 cipher suite \"", name,
              "\" is unknown; wanted some of TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, "
              "TLS_CHACHA20_POLY1305_SHA256, with colons between them");
    if (!is_last) names.remove_prefix(end + 1);
  }
}

// The key is not protected by a password: nobody could be asked for it.
int refuse_password(char*, int, int, void*) { return -1; }

}  // namespace

TlsContext::TlsContext(const TlsOptions& options, std::shared_ptr<const Credentials> credentials)
    : options_(options), credentials_(std::move(credentials)), context_(SSL_CTX_new(TLS_method())) {
  DST_CHECK_AS(Internal, context_, "SSL_CTX_new: ", openssl_error());
  SSL_CTX* context = context_.get();
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION);
  check_cipher_suites(options.identity.ciphers);
  DST_CHECK_AS(Internal, SSL_CTX_set_ciphersuites(context, options.identity.ciphers.c_str()) == 1,
               "SSL_CTX_set_ciphersuites: ", openssl_error());
  // Every connection proves itself anew: nothing is resumed.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                     &TlsHandshake::verify_certificate);
  SSL_CTX_set_keylog_callback(context, &TlsHandshake::take_secret);
  load_trusted(*credentials_);
  load_own(*credentials_);
}

// The first certificate is this rank's own, the others lead from it towards an authority. Without
// any the rank still connects, and is refused by name.
void TlsContext::load_own(const Credentials& credentials) {
  const auto chain = read_certificates(credentials.certificate_chain);
  renewal_time_ = WallTime::max();
  if (credentials.certificate_chain.empty()) return;
  DST_CHECK_AS(DataCorruption, !chain.empty(), "the certificate chain of ",
               credentials.certificate_chain.size(), " bytes holds no PEM certificate");
  const KeyHandle key(PEM_read_bio_PrivateKey(bio_over(credentials.private_key).get(), nullptr,
                                              &refuse_password, nullptr));
  DST_CHECK_AS(DataCorruption, key, "the private key of ", credentials.private_key.size(),
               " bytes is no PEM key: ", openssl_error());
  bool ok = SSL_CTX_use_certificate(context_.get(), chain[0].get()) == 1;
  for (size_t i = 1; i < chain.size(); ++i)
    ok = ok && SSL_CTX_add1_chain_cert(context_.get(), chain[i].get()) == 1;
  ok = ok && SSL_CTX_use_PrivateKey(context_.get(), key.get()) == 1;
  DST_CHECK_AS(DataCorruption, ok, "certificate ", describe(chain[0].get()),
               " and its key cannot be used: ", openssl_error());
  const auto now = std::chrono::system_clock::now();
  const auto left = end_of(chain[0].get()) - now;
  renewal_time_ = now + std::max<WallTime::duration>(left * 2 / 3, std::chrono::seconds(1));
}

void TlsContext::load_trusted(const Credentials& credentials) {
  const auto authorities = read_certificates(credentials.trust_bundle);
  DST_CHECK_AS(DataCorruption, !authorities.empty(), "the trust bundle of ",
               credentials.trust_bundle.size(),
               " bytes holds no PEM certificate, so that no peer could be believed");
  X509_STORE* store = SSL_CTX_get_cert_store(context_.get());
  for (const auto& authority : authorities)
    DST_CHECK_AS(DataCorruption, X509_STORE_add_cert(store, authority.get()) == 1,
                 "the trust bundle's certificate ", describe(authority.get()), ": ",
                 openssl_error());
}

std::string TlsContext::own_certificate() const {
  X509* certificate = SSL_CTX_get0_certificate(context_.get());
  return certificate ? describe(certificate) : "nothing, there is no certificate";
}

}  // namespace deepseek_train::collectives
