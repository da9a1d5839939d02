#include "collectives/transport/tls/record.h"

#include <algorithm>
#include <cstring>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

// What every sealed record calls itself in clear, before its length.
constexpr std::byte kOuterType{23}, kVersionMajor{3}, kVersionMinor{3};
constexpr std::byte kKeyUpdate[] = {std::byte{24}, std::byte{0}, std::byte{0}, std::byte{1},
                                    std::byte{0}};

}  // namespace

size_t RecordWriter::seal(ContentType type, std::span<const std::span<const std::byte>> parts,
                          std::byte* header) {
  std::byte* out = header + kRecordHeader;
  std::span<const std::byte> body = parts[0];
  if (parts.size() > 1) {  // gathered where they are going to be encrypted
    std::byte* at = out;
    for (const auto& part : parts) at = std::copy(part.begin(), part.end(), at);
    body = {out, at};
  }
  DST_ASSERT(body.size() <= kMaxRecordBody, "a record of ", body.size(), " bytes");
  const size_t sealed = body.size() + RecordCipher::kOverhead;
  header[0] = kOuterType;
  header[1] = kVersionMajor;
  header[2] = kVersionMinor;
  header[3] = static_cast<std::byte>(sealed >> 8);
  header[4] = static_cast<std::byte>(sealed);
  key_.cipher().seal(key_.next_nonce(), {header, kRecordHeader}, body, static_cast<std::byte>(type),
                     out);
  return kRecordHeader + sealed;
}

size_t RecordWriter::change_key(std::byte* out) {
  const std::span<const std::byte> message = kKeyUpdate;
  const size_t size = seal(ContentType::kHandshake, {&message, 1}, out);
  key_.advance();
  return size;
}

std::optional<std::span<std::byte>> find_record(std::span<std::byte> bytes) {
  if (bytes.size() < kRecordHeader) return std::nullopt;
  const size_t sealed = std::to_integer<size_t>(bytes[3]) << 8 | std::to_integer<size_t>(bytes[4]);
  const bool ok = bytes[0] == kOuterType && bytes[1] == kVersionMajor &&
                  bytes[2] == kVersionMinor && sealed >= RecordCipher::kOverhead &&
                  sealed <= kMaxRecord - kRecordHeader;
  DST_CHECK_AS(DataCorruption, ok, "what has come is no TLS 1.3 record: type ",
               std::to_integer<int>(bytes[0]), ", ", sealed, " bytes");
  if (bytes.size() < kRecordHeader + sealed) return std::nullopt;
  return bytes.first(kRecordHeader + sealed);
}

ContentType RecordReader::open(std::span<const std::byte> record, std::byte* out, size_t& size) {
  const size_t limit = max_body(record);
  std::byte type{};
  const uint64_t number = key_.num_records();
  const bool is_genuine = key_.cipher().open(key_.next_nonce(), record.first(kRecordHeader),
                                             record.subspan(kRecordHeader), out, type);
  if (!is_genuine) {
    std::memset(out, 0, limit);
    throw DataCorruption(concat("TLS record ", number,
                                " of this key is not what the other end sealed: altered on the "
                                "way, repeated, left out or forged"));
  }
  size = limit;
  while (type == std::byte{0} && size > 0) type = out[--size];  // padding
  return static_cast<ContentType>(type);
}

}  // namespace deepseek_train::collectives
