#include "collectives/transport/call_signature.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "collectives/describe.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

constexpr uint8_t kSend = 100;  // beyond every Collective
constexpr uint8_t kRecv = 101;

CallSignature sign_message(uint8_t kind, size_t bytes, int peer) {
  CallSignature signature;
  signature.count = bytes;
  signature.root = peer;
  signature.kind = kind;
  return signature;
}

// FNV-1a over the numbers.
uint64_t hash_of(const std::vector<size_t>& counts) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const size_t count : counts) hash = (hash ^ count) * 0x100000001b3u;
  return hash;
}

// Of uneven parts all ranks know all sizes only in reduce_scatter and all_gather; elsewhere each
// knows its own, and sender and receiver compare theirs part by part.
uint64_t count_to_agree_on(const CollectiveCall& call) {
  if (call.in_counts.empty() && call.out_counts.empty()) return call.count;
  if (call.kind == Collective::kReduceScatter) return hash_of(call.in_counts);
  if (call.kind == Collective::kAllGather) return hash_of(call.out_counts);
  return 0;
}

// gather and scatter with uneven parts are known as such at the root only.
bool may_be_uneven(const CollectiveCall& call) {
  return !call.in_counts.empty() || !call.out_counts.empty();
}

std::string_view base_name(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

std::string parts_of(const CallSignature& call) {
  const auto type = name_of(static_cast<DType>(call.dtype));
  if (call.has_uneven_parts) return concat("parts of ", type);
  return concat(call.count, " ", type);
}

std::string details_of(const CallSignature& call) {
  switch (static_cast<Collective>(call.kind)) {
    case Collective::kBarrier: return "";
    case Collective::kBroadcast: return concat(" (", parts_of(call), " from rank ", call.root, ")");
    case Collective::kAllGather:
    case Collective::kAllToAll: return concat(" (", parts_of(call), " per rank)");
    case Collective::kGather: return concat(" (", parts_of(call), " to rank ", call.root, ")");
    case Collective::kScatter: return concat(" (", parts_of(call), " from rank ", call.root, ")");
    case Collective::kReduceScatter:
      return concat(" (", name_of(static_cast<ReduceOp>(call.op)), " of ", parts_of(call),
                    " per rank)");
    case Collective::kAllReduce:
      return concat(" (", name_of(static_cast<ReduceOp>(call.op)), " of ", parts_of(call), ")");
  }
  return "";
}

}  // namespace

CallSignature sign_send(size_t bytes, int to) { return sign_message(kSend, bytes, to); }
CallSignature sign_recv(size_t bytes, int from) { return sign_message(kRecv, bytes, from); }

CallSignature sign(const CollectiveCall& call, uint64_t sequence) {
  CallSignature signature;
  signature.sequence = sequence;
  signature.count = count_to_agree_on(call);
  signature.root = call.root;
  signature.kind = static_cast<uint8_t>(call.kind);
  signature.dtype = static_cast<uint8_t>(call.dtype);
  signature.op = static_cast<uint8_t>(call.op);
  signature.has_uneven_parts = may_be_uneven(call);
  signature.line = call.site.line();
  const auto file = base_name(call.site.file_name());
  std::memcpy(signature.file, file.data(), std::min(file.size(), sizeof(signature.file) - 1));
  return signature;
}

bool is_same_call(const CallSignature& a, const CallSignature& b) {
  const bool is_rooted_exchange = a.kind == static_cast<uint8_t>(Collective::kGather) ||
                                  a.kind == static_cast<uint8_t>(Collective::kScatter);
  const bool is_same_count = a.count == b.count && a.has_uneven_parts == b.has_uneven_parts;
  return a.sequence == b.sequence && a.root == b.root && a.kind == b.kind && a.dtype == b.dtype &&
         a.op == b.op && (is_rooted_exchange || is_same_count);
}

std::string describe(const CallSignature& call) {
  if (call.kind == kSend) return concat("send (", call.count, " bytes to rank ", call.root, ")");
  if (call.kind == kRecv) return concat("recv (", call.count, " bytes from rank ", call.root, ")");
  if (call.sequence == 0) return "no call";
  if (call.kind > static_cast<uint8_t>(Collective::kScatter) ||
      call.dtype > static_cast<uint8_t>(DType::kFloat8E8M0) ||
      call.op > static_cast<uint8_t>(ReduceOp::kOr))
    return concat("an unknown call (kind ", int{call.kind}, ", dtype ", int{call.dtype}, ", op ",
                  int{call.op}, ")");
  const std::string_view file(call.file, ::strnlen(call.file, sizeof(call.file)));
  return concat(name_of(static_cast<Collective>(call.kind)), " #", call.sequence, details_of(call),
                file.empty() ? "" : " at ", file, file.empty() ? "" : concat(":", call.line));
}

}  // namespace deepseek_train::collectives
