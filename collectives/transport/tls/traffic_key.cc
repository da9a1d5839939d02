#include "collectives/transport/tls/traffic_key.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <utility>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

constexpr CipherSuite kSuites[] = {
    {"TLS_AES_128_GCM_SHA256", CipherKind::kAes128Gcm, &EVP_sha256},
    {"TLS_AES_256_GCM_SHA384", CipherKind::kAes256Gcm, &EVP_sha384},
    {"TLS_CHACHA20_POLY1305_SHA256", CipherKind::kChaCha20Poly1305, &EVP_sha256},
};

}  // namespace

const CipherSuite* find_cipher_suite(std::string_view name) {
  const auto found = std::ranges::find(kSuites, name, &CipherSuite::name);
  return found == std::end(kSuites) ? nullptr : &*found;
}

void wipe(TrafficKey::Secret& secret) {
  OPENSSL_cleanse(secret.data(), secret.size());
  secret.clear();
}

TrafficKey::TrafficKey(const CipherSuite& suite, Secret secret)
    : suite_(&suite), secret_(std::move(secret)) {
  const auto wanted = static_cast<size_t>(EVP_MD_get_size(suite.digest()));
  DST_CHECK_AS(Internal, secret_.size() == wanted, "a traffic secret of ", secret_.size(),
               " bytes, wanted ", wanted);
  derive();
}

TrafficKey::~TrafficKey() { wipe(secret_); }

// HKDF-Expand-Label with an empty context; one block of HKDF (RFC 5869) is enough for all that is
// asked for.
TrafficKey::Secret TrafficKey::expand_label(std::string_view label, size_t size) const {
  const std::string full_label = concat("tls13 ", label);
  std::vector<unsigned char> info = {static_cast<unsigned char>(size >> 8),
                                     static_cast<unsigned char>(size),
                                     static_cast<unsigned char>(full_label.size())};
  info.insert(info.end(), full_label.begin(), full_label.end());
  info.push_back(0);  // the context's size
  info.push_back(1);  // the block's number
  Secret expanded(EVP_MAX_MD_SIZE);
  unsigned int block_size = 0;
  const unsigned char* ok =
      HMAC(suite_->digest(), secret_.data(), static_cast<int>(secret_.size()), info.data(),
           info.size(), reinterpret_cast<unsigned char*>(expanded.data()), &block_size);
  DST_CHECK_AS(Internal, ok && size <= block_size, "HMAC: ", openssl_error());
  OPENSSL_cleanse(expanded.data() + size, expanded.size() - size);
  expanded.resize(size);
  return expanded;
}

void TrafficKey::derive() {
  Secret key = expand_label("key", key_bytes(suite_->cipher));
  const Secret start = expand_label("iv", start_.size());
  std::ranges::copy(start, start_.begin());
  cipher_ = make_record_cipher(suite_->cipher, key);
  num_records_ = 0;
  wipe(key);
}

void TrafficKey::advance() {
  Secret next = expand_label("traffic upd", secret_.size());
  std::swap(secret_, next);
  wipe(next);
  derive();
}

RecordCipher::Nonce TrafficKey::next_nonce() {
  auto nonce = start_;
  for (size_t i = 0; i < sizeof(num_records_); ++i)
    nonce[nonce.size() - 1 - i] ^= static_cast<std::byte>(num_records_ >> (8 * i));
  ++num_records_;
  return nonce;
}

}  // namespace deepseek_train::collectives
