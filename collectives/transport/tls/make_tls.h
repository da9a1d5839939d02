// Mutual TLS 1.3 between ranks.
#pragma once

#include <memory>

#include "collectives/transport/tcp/stream.h"
#include "deepseek_train/collectives/communicator_options.h"

namespace deepseek_train::collectives {

struct TlsOptions {
  NetworkIdentity identity;
  int rank = 0;  // of the launch
  int size = 1;
  // The sending key is changed (TLS 1.3 KeyUpdate) after so many records, 64 GiB of full ones: well
  // below the 2^24.5 that RFC 8446, section 5.5, allows AES-GCM.
  uint64_t rekey_records = uint64_t{1} << 22;
};

// Both ends show a certificate whose URI name is JOB/rank/R, signed by an authority of the other's
// trust bundle and valid now; the accepting end takes any rank R of the launch, the connecting end
// only the one it calls. The check is part of the handshake, so that a refused end is told by a TLS
// alert, and nothing it sends is interpreted.
//
// Credentials are asked for at every connection. A connection lives on after its certificate has
// been rotated; when two thirds of what its certificate had left to live are over, the transport
// makes all its connections anew between two calls, with the credentials of that moment. If the
// source has only expired ones then, that fails with an error that says so.
//
// OpenSSL makes the handshake; the records after it are this library's own, in the standard format
// (tls_stream.h).
//
// Throws InvalidArgument for a job that is no "spiffe://" id and unknown cipher suites, or if the
// library was built without TLS.
std::shared_ptr<StreamFactory> make_tls_streams(const TlsOptions& options);

}  // namespace deepseek_train::collectives
