#include "collectives/transport/call_signature.h"

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

}  // namespace

CallSignature sign_send(size_t bytes, int to) { return sign_message(kSend, bytes, to); }
CallSignature sign_recv(size_t bytes, int from) { return sign_message(kRecv, bytes, from); }

CallSignature sign(const CollectiveCall& call, uint64_t sequence) {
  CallSignature signature;
  signature.sequence = sequence;
  signature.count = call.count;
  signature.root = call.root;
  signature.kind = static_cast<uint8_t>(call.kind);
  signature.dtype = static_cast<uint8_t>(call.dtype);
  signature.op = static_cast<uint8_t>(call.op);
  return signature;
}

bool is_same_call(const CallSignature& a, const CallSignature& b) {
  return a.sequence == b.sequence && a.count == b.count && a.root == b.root && a.kind == b.kind &&
         a.dtype == b.dtype && a.op == b.op;
}

std::string describe(const CallSignature& call) {
  if (call.kind == kSend) return concat("send (", call.count, " bytes to rank ", call.root, ")");
  if (call.kind == kRecv) return concat("recv (", call.count, " bytes from rank ", call.root, ")");
  if (call.kind > static_cast<uint8_t>(Collective::kBarrier) ||
      call.dtype > static_cast<uint8_t>(DType::kFloat8E5M2) ||
      call.op > static_cast<uint8_t>(ReduceOp::kAvg))
    return concat("an unknown call (kind ", int{call.kind}, ", dtype ", int{call.dtype}, ", op ",
                  int{call.op}, ")");
  const auto kind = static_cast<Collective>(call.kind);
  std::string text = concat(name_of(kind), " #", call.sequence);
  if (kind == Collective::kBarrier) return text;
  const auto elements = concat(call.count, " ", name_of(static_cast<DType>(call.dtype)));
  if (kind == Collective::kBroadcast)
    return concat(text, " (", elements, " from rank ", call.root, ")");
  if (kind == Collective::kAllGather) return concat(text, " (", elements, " per rank)");
  const char* per_rank = kind == Collective::kReduceScatter ? " per rank)" : ")";
  return concat(text, " (", name_of(static_cast<ReduceOp>(call.op)), " of ", elements, per_rank);
}

}  // namespace deepseek_train::collectives
