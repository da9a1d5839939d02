#include "collectives/transport/tls/certificate.h"

#include <charconv>
#include <ctime>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

std::time_t seconds_of(const ASN1_TIME* time) {
  std::tm parts{};
  return time && ASN1_TIME_to_tm(time, &parts) ? ::timegm(&parts) : 0;
}

std::string text_of(const ASN1_TIME* time) {
  const std::time_t seconds = seconds_of(time);
  std::tm parts{};
  char text[32] = {};
  ::gmtime_r(&seconds, &parts);
  std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%SZ", &parts);
  return text;
}

std::string common_name(const X509_NAME* name) {
  char text[256] = {};
  const int length = X509_NAME_get_text_by_NID(name, NID_commonName, text, sizeof(text));
  return length > 0 ? std::string(text, length) : "an unnamed authority";
}

}  // namespace

std::vector<std::string> uri_names(X509* certificate) {
  std::vector<std::string> uris;
  const NamesHandle names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI) continue;
    const ASN1_IA5STRING* uri = name->d.uniformResourceIdentifier;
    uris.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)),
                      ASN1_STRING_length(uri));
  }
  return uris;
}

WallTime end_of(X509* certificate) {
  return std::chrono::system_clock::from_time_t(seconds_of(X509_get0_notAfter(certificate)));
}

std::string describe(X509* certificate) {
  std::string names;
  for (const auto& uri : uri_names(certificate)) names += (names.empty() ? "" : " and ") + uri;
  return concat(names.empty() ? "no URI name" : names, " (issued by ",
                common_name(X509_get_issuer_name(certificate)), ", valid ",
                text_of(X509_get0_notBefore(certificate)), " to ",
                text_of(X509_get0_notAfter(certificate)), ")");
}

int rank_in(const std::string& name, const std::string& job) {
  const std::string prefix = job + "/rank/";
  if (!name.starts_with(prefix)) return -1;
  const char* begin = name.data() + prefix.size();
  const char* end = name.data() + name.size();
  int rank = -1;
  const auto [rest, error] = std::from_chars(begin, end, rank);
  // One way to write each rank: no sign, no leading zero, nothing behind.
  const bool is_canonical =
      error == std::errc() && rest == end && *begin != '-' && (*begin != '0' || end - begin == 1);
  return is_canonical ? rank : -1;
}

}  // namespace deepseek_train::collectives
