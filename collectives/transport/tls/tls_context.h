// OpenSSL's settings for one set of credentials.
#pragma once

#include <memory>

#include "collectives/transport/tls/certificate.h"
#include "collectives/transport/tls/make_tls.h"
#include "collectives/transport/tls/openssl_handles.h"

namespace deepseek_train::collectives {

// Shared by the connections made with these credentials. Immutable.
class TlsContext {
 public:
  // Throws DataCorruption for texts that are no certificate or key, InvalidArgument for unknown
  // cipher suites.
  TlsContext(const TlsOptions& options, std::shared_ptr<const Credentials> credentials);

  SSL_CTX* get() const { return context_.get(); }
  const TlsOptions& options() const { return options_; }
  const Credentials* credentials() const { return credentials_.get(); }
  // This rank's own certificate, for messages.
  std::string own_certificate() const;
  WallTime renewal_time() const { return renewal_time_; }

 private:
  void load_own(const Credentials& credentials);
  void load_trusted(const Credentials& credentials);

  const TlsOptions options_;
  const std::shared_ptr<const Credentials> credentials_;
  SslContextHandle context_;
  WallTime renewal_time_;
};

}  // namespace deepseek_train::collectives
