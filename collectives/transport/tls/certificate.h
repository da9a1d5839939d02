// What a certificate says.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "collectives/transport/tls/openssl_handles.h"

namespace deepseek_train::collectives {

using WallTime = std::chrono::system_clock::time_point;

// Its URI subject alternative names. SPIFFE allows exactly one.
std::vector<std::string> uri_names(X509* certificate);
// When its validity ends.
WallTime end_of(X509* certificate);
// "spiffe://bank/job/rank/1 (issued by Bank CA, valid 2026-11-01 10:00:00Z to 2026-11-01
// 11:00:00Z)".
std::string describe(X509* certificate);

// The rank in "JOB/rank/R"; -1 if the name is anything else.
int rank_in(const std::string& name, const std::string& job);

}  // namespace deepseek_train::collectives
