// The cipher of TLS records.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

namespace deepseek_train::collectives {

// Authenticated encryption with one key, for one direction of a connection. What TLS 1.3 encrypts
// is a body and one byte behind it, the record's type; they are given apart so that bodies are
// encrypted from, and decrypted to, where they lie. One thread at a time.
class RecordCipher {
 public:
  static constexpr size_t kTagBytes = 16;
  static constexpr size_t kNonceBytes = 12;
  // What a sealed record has beyond its body.
  static constexpr size_t kOverhead = 1 + kTagBytes;
  using Nonce = std::array<std::byte, kNonceBytes>;
  using Bytes = std::span<const std::byte>;

  virtual ~RecordCipher() = default;

  // Writes body.size() + kOverhead bytes to `out`, which may be where the body lies. A nonce must
  // never come twice.
  virtual void seal(const Nonce& nonce, Bytes header, Bytes body, std::byte type,
                    std::byte* out) = 0;
  // Writes sealed.size() - kOverhead bytes to `out`, which may be where the sealed bytes lie. False
  // if the record was not sealed with this key, nonce and header: what is in `out` is then to be
  // thrown away.
  virtual bool open(const Nonce& nonce, Bytes header, Bytes sealed, std::byte* out,
                    std::byte& type) = 0;
};

enum class CipherKind { kAes128Gcm, kAes256Gcm, kChaCha20Poly1305 };

size_t key_bytes(CipherKind kind);

// OpenSSL's.
std::unique_ptr<RecordCipher> make_evp_cipher(CipherKind kind, std::span<const std::byte> key);
// AES-GCM on 64-byte vectors; null where the processor has none or the cipher is another.
std::unique_ptr<RecordCipher> make_vector_cipher(CipherKind kind, std::span<const std::byte> key);
// The faster of them.
std::unique_ptr<RecordCipher> make_record_cipher(CipherKind kind, std::span<const std::byte> key);

}  // namespace deepseek_train::collectives
