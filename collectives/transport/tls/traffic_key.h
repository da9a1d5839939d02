// The keys of one direction of a TLS 1.3 connection.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "collectives/transport/tls/openssl_handles.h"
#include "collectives/transport/tls/record_cipher.h"

namespace deepseek_train::collectives {

// What a cipher suite stands for. A new cipher (SM4-GCM, RFC 8998) is a line in the table of these
// and a RecordCipher.
struct CipherSuite {
  std::string_view name;  // OpenSSL's
  CipherKind cipher;
  const EVP_MD* (*digest)();
};

// Null if this library cannot.
const CipherSuite* find_cipher_suite(std::string_view name);

// A traffic secret, and the cipher, nonces and numbers of records that follow from it (RFC 8446,
// sections 5.3 and 7.3). Secrets are wiped when they are no longer needed.
class TrafficKey {
 public:
  using Secret = std::vector<std::byte>;

  TrafficKey(const CipherSuite& suite, Secret secret);
  TrafficKey(TrafficKey&&) = default;
  ~TrafficKey();

  RecordCipher& cipher() { return *cipher_; }
  // Never the same twice under one key: the key's random start, xored with the record's number.
  RecordCipher::Nonce next_nonce();
  // Records under the present key.
  uint64_t num_records() const { return num_records_; }
  // To the secret after this one, from which this one cannot be found (section 7.2).
  void advance();

 private:
  Secret expand_label(std::string_view label, size_t size) const;
  void derive();

  const CipherSuite* suite_;
  Secret secret_;
  RecordCipher::Nonce start_{};
  std::unique_ptr<RecordCipher> cipher_;
  uint64_t num_records_ = 0;
};

void wipe(TrafficKey::Secret& secret);

}  // namespace deepseek_train::collectives
