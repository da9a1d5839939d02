// One owner for each of OpenSSL's objects, and its errors as text.
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

namespace deepseek_train::collectives {

template <auto kFree>
struct FreeWith {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};

using SslContextHandle = std::unique_ptr<SSL_CTX, FreeWith<&SSL_CTX_free>>;
using SslHandle = std::unique_ptr<SSL, FreeWith<&SSL_free>>;
using BioHandle = std::unique_ptr<BIO, FreeWith<&BIO_free>>;
using BioMethodHandle = std::unique_ptr<BIO_METHOD, FreeWith<&BIO_meth_free>>;
using CertificateHandle = std::unique_ptr<X509, FreeWith<&X509_free>>;
using KeyHandle = std::unique_ptr<EVP_PKEY, FreeWith<&EVP_PKEY_free>>;
using NamesHandle = std::unique_ptr<GENERAL_NAMES, FreeWith<&GENERAL_NAMES_free>>;

// What this thread's last failed call of OpenSSL says; empties its queue.
inline std::string openssl_error() {
  const unsigned long code = ERR_peek_last_error();
  const char* reason = ERR_reason_error_string(code);
  ERR_clear_error();
  return reason ? reason : "no reason given";
}

}  // namespace deepseek_train::collectives
