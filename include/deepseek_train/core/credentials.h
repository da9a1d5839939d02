// Who this process is, for those who ask over a network.
#pragma once

#include <memory>
#include <string>

namespace deepseek_train {

// An X.509 identity, as PEM texts: the certificate with its intermediates, its private key, and the
// certificates of the authorities whose word is taken about others.
struct Credentials {
  std::string certificate_chain;
  std::string private_key;
  std::string trust_bundle;
};

// Gives the credentials of the moment. Certificates of a workload live for minutes to hours, so
// whoever makes a connection asks again. Thread-safe.
class CredentialSource {
 public:
  virtual ~CredentialSource() = default;
  // Never null. Throws NotFound or DataCorruption when there are none.
  virtual std::shared_ptr<const Credentials> current() = 0;
};

class Env;

// Those in a folder: NAME.crt (the certificate, then its intermediates), NAME.key (not protected by
// a password) and ca.crt (the authorities), in PEM. Every current() looks at the files, so that
// they may be rotated; replace the folder as a whole (a symbolic link to it), as Kubernetes does
// with secrets, and a certificate never meets another's key. `env` must outlive the source.
std::unique_ptr<CredentialSource> folder_credentials(Env& env, const std::string& folder,
                                                     const std::string& name);

}  // namespace deepseek_train
