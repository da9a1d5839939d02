// TLS 1.3 records (RFC 8446, section 5), sealed from and opened to where their bodies lie.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "collectives/transport/tls/traffic_key.h"

namespace deepseek_train::collectives {

enum class ContentType : uint8_t { kAlert = 21, kHandshake = 22, kApplicationData = 23 };
// Of handshake messages, those that may come after the handshake.
enum class HandshakeType : uint8_t { kNewSessionTicket = 4, kKeyUpdate = 24 };

inline constexpr size_t kRecordHeader = 5;
inline constexpr size_t kMaxRecordBody = 16 << 10;
// What a record has beyond its body, as sealed here: nothing is padded.
inline constexpr size_t kRecordOverhead = kRecordHeader + RecordCipher::kOverhead;
// Others may pad by this much.
inline constexpr size_t kMaxRecord = kRecordHeader + kMaxRecordBody + 256;

// Seals records.
class RecordWriter {
 public:
  explicit RecordWriter(TrafficKey key) : key_(std::move(key)) {}

  // Writes one record to `out`, whose body is the parts, kMaxRecordBody bytes at most. Returns its
  // size: kRecordOverhead more.
  size_t seal(ContentType type, std::span<const std::span<const std::byte>> parts, std::byte* out);
  // Writes the message that the key changes, kKeyChangeBytes, and changes it.
  size_t change_key(std::byte* out);
  uint64_t records_under_key() const { return key_.num_records(); }

  static constexpr size_t kKeyChangeBytes = 5 + kRecordOverhead;

 private:
  TrafficKey key_;
};

// The record that `bytes` begins with, or nothing if it has not come whole.
std::optional<std::span<std::byte>> find_record(std::span<std::byte> bytes);

// Opens records in the order in which the other end has sealed them: one that was altered, left
// out, repeated or moved does not open.
class RecordReader {
 public:
  explicit RecordReader(TrafficKey key) : key_(std::move(key)) {}

  // The most that a record's body can have; its padding and type count too.
  static size_t max_body(std::span<const std::byte> record) {
    return record.size() - kRecordOverhead;
  }
  // Opens the body to `out`, which has room for max_body() bytes and may lie in the record. Throws
  // DataCorruption, and leaves zeros, if it is not the record that comes next.
  ContentType open(std::span<const std::byte> record, std::byte* out, size_t& size);
  void change_key() { key_.advance(); }

 private:
  TrafficKey key_;
};

}  // namespace deepseek_train::collectives
