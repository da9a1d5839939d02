// A build without OpenSSL.
#include "collectives/transport/tls/make_tls.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {

std::shared_ptr<StreamFactory> make_tls_streams(const TlsOptions&) {
  throw InvalidArgument(
      "credentials were given, but this library was built without TLS; build it with "
      "-DDST_WITH_TLS=ON (needs OpenSSL 3, package libssl-dev), or leave "
      "CommunicatorOptions::identity empty");
}

}  // namespace deepseek_train::collectives
