// A small certificate authority for the tests of TLS.
#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <string>

#include "collectives/transport/tls/openssl_handles.h"
#include "deepseek_train/core/credentials.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::testing {

struct CertificateRequest {
  std::string uri;                   // none if empty
  std::chrono::seconds begins{-60};  // from now
  std::chrono::seconds ends{3600};
};

// Signs P-256 certificates with a key made at construction.
class TestAuthority {
 public:
  explicit TestAuthority(const std::string& name) : key_(make_key()), certificate_(X509_new()) {
    fill(certificate_.get(), name, name, key_.get(), {});
    add_extension(certificate_.get(), NID_basic_constraints, "critical,CA:TRUE");
    sign(certificate_.get());
  }

  std::string trust_bundle() const { return pem_of(certificate_.get()); }

  Credentials issue(const CertificateRequest& request) const {
    const Key key = make_key();
    const Certificate certificate(X509_new());
    fill(certificate.get(), "rank", name(), key.get(), request);
    if (!request.uri.empty())
      add_extension(certificate.get(), NID_subject_alt_name, "URI:" + request.uri);
    sign(certificate.get());
    return {pem_of(certificate.get()), pem_of(key.get()), trust_bundle()};
  }

 private:
  using Key = collectives::KeyHandle;
  using Certificate = collectives::CertificateHandle;
  using Bio = collectives::BioHandle;

  static Key make_key() { return Key(EVP_EC_gen("P-256")); }

  std::string name() const {
    char text[64] = {};
    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate_.get()), NID_commonName, text,
                              sizeof(text));
    return text;
  }

  static void set_name(X509_NAME* where, const std::string& name) {
    X509_NAME_add_entry_by_txt(where, "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  }

  static void fill(X509* certificate, const std::string& subject, const std::string& issuer,
                   EVP_PKEY* key, const CertificateRequest& request) {
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), request.begins.count());
    X509_gmtime_adj(X509_getm_notAfter(certificate), request.ends.count());
    set_name(X509_get_subject_name(certificate), subject);
    set_name(X509_get_issuer_name(certificate), issuer);
    X509_set_pubkey(certificate, key);
  }

  static void add_extension(X509* certificate, int kind, const std::string& value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, kind, value.c_str());
    DST_ASSERT(extension, "bad extension ", value);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
  }

  void sign(X509* certificate) const { X509_sign(certificate, key_.get(), EVP_sha256()); }

  static std::string text_of(BIO* bio) {
    char* data = nullptr;
    const long length = BIO_get_mem_data(bio, &data);
    return {data, static_cast<size_t>(length)};
  }
  static std::string pem_of(X509* certificate) {
    const Bio bio(BIO_new(BIO_s_mem()));
    PEM_write_bio_X509(bio.get(), certificate);
    return text_of(bio.get());
  }
  static std::string pem_of(EVP_PKEY* key) {
    const Bio bio(BIO_new(BIO_s_mem()));
    PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr);
    return text_of(bio.get());
  }

  Key key_;
  Certificate certificate_;
};

// Credentials that a test may replace while ranks run.
class TestCredentials : public CredentialSource {
 public:
  explicit TestCredentials(Credentials credentials) { rotate(std::move(credentials)); }
  std::shared_ptr<const Credentials> current() override {
    std::lock_guard lock(mutex_);
    ++num_asked_;
    return credentials_;
  }
  void rotate(Credentials credentials) {
    std::lock_guard lock(mutex_);
    credentials_ = std::make_shared<const Credentials>(std::move(credentials));
  }
  int num_asked() const {
    std::lock_guard lock(mutex_);
    return num_asked_;
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const Credentials> credentials_;
  int num_asked_ = 0;
};

}  // namespace deepseek_train::testing
