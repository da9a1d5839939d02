// Any AEAD cipher, by OpenSSL.
#include <openssl/evp.h>

#include <limits>

#include "collectives/transport/tls/openssl_handles.h"
#include "collectives/transport/tls/record_cipher.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

using CipherContextHandle = std::unique_ptr<EVP_CIPHER_CTX, FreeWith<&EVP_CIPHER_CTX_free>>;

const unsigned char* bytes_of(const std::byte* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}
unsigned char* bytes_of(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }

const EVP_CIPHER* evp_cipher(CipherKind kind) {
  switch (kind) {
    case CipherKind::kAes128Gcm: return EVP_aes_128_gcm();
    case CipherKind::kAes256Gcm: return EVP_aes_256_gcm();
    case CipherKind::kChaCha20Poly1305: return EVP_chacha20_poly1305();
  }
  throw Internal("unknown cipher");
}

class EvpCipher final : public RecordCipher {
 public:
  EvpCipher(CipherKind kind, std::span<const std::byte> key) : context_(EVP_CIPHER_CTX_new()) {
    check(context_ && EVP_CipherInit_ex(context_.get(), evp_cipher(kind), nullptr,
                                        bytes_of(key.data()), nullptr, 1));
  }

  void seal(const Nonce& nonce, Bytes header, Bytes body, std::byte type, std::byte* out) override {
    begin(nonce, header, 1);
    update(body.data(), body.size(), out);
    update(&type, 1, out + body.size());
    std::byte* tag = out + body.size() + 1;
    int count = 0;
    check(EVP_CipherFinal_ex(context_.get(), bytes_of(tag), &count));
    check(EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_AEAD_GET_TAG, kTagBytes, tag));
  }

  bool open(const Nonce& nonce, Bytes header, Bytes sealed, std::byte* out,
            std::byte& type) override {
    const size_t size = sealed.size() - kOverhead;
    const auto tag = sealed.last(kTagBytes);
    begin(nonce, header, 0);
    check(EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_AEAD_SET_TAG, kTagBytes,
                              const_cast<std::byte*>(tag.data())));
    update(sealed.data(), size, out);
    update(&sealed[size], 1, &type);
    int count = 0;
    std::byte nothing;
    if (EVP_CipherFinal_ex(context_.get(), bytes_of(&nothing), &count) == 1) return true;
    ERR_clear_error();
    return false;
  }

 private:
  static void check(bool ok) { DST_CHECK_AS(Internal, ok, "OpenSSL's cipher: ", openssl_error()); }

  void begin(const Nonce& nonce, Bytes header, int is_sealing) {
    int count = 0;
    check(EVP_CipherInit_ex(context_.get(), nullptr, nullptr, nullptr, bytes_of(nonce.data()),
                            is_sealing));
    check(EVP_CipherUpdate(context_.get(), nullptr, &count, bytes_of(header.data()),
                           static_cast<int>(header.size())));
  }
  void update(const std::byte* in, size_t size, std::byte* out) {
    int count = 0;
    if (size == 0) return;
    check(EVP_CipherUpdate(context_.get(), bytes_of(out), &count, bytes_of(in),
                           static_cast<int>(size)));
  }

  const CipherContextHandle context_;
};

}  // namespace

size_t key_bytes(CipherKind kind) { return kind == CipherKind::kAes128Gcm ? 16 : 32; }

std::unique_ptr<RecordCipher> make_evp_cipher(CipherKind kind, std::span<const std::byte> key) {
  DST_ASSERT(key.size() == key_bytes(kind), "a key of ", key.size(), " bytes");
  return std::make_unique<EvpCipher>(kind, key);
}

// OpenSSL's own AES-GCM has 16-byte vectors until 3.1. A process that has been confined to FIPS
// modules gets OpenSSL's in any case.
std::unique_ptr<RecordCipher> make_record_cipher(CipherKind kind, std::span<const std::byte> key) {
  if (!EVP_default_properties_is_fips_enabled(nullptr)) {
    if (auto cipher = make_vector_cipher(kind, key)) return cipher;
  }
  return make_evp_cipher(kind, key);
}

}  // namespace deepseek_train::collectives
