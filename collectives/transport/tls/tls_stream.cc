#include "collectives/transport/tls/tls_stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"

namespace deepseek_train::collectives {
namespace {

// Clear text of one batch: it stays in the core's own cache on its way into the socket.
constexpr size_t kBatchBytes = 128 << 10;
// Parts up to here share a record.
constexpr size_t kSmallPart = 4 << 10;
// Most that one try_recv decrypts, so that sending gets its turn.
constexpr size_t kReceiveBytes = 256 << 10;
// Of one system call, encrypted; streams that carry only small messages stay with room for one
// record.
constexpr size_t kReadBytes = 256 << 10;

constexpr std::byte kCloseNotify[] = {std::byte{1}, std::byte{0}};

bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

// How many of the parts, all of them small, go into one record of `room` bytes at most.
size_t count_small(ByteSpans parts, size_t room) {
  room = std::min(room, kMaxRecordBody);
  size_t count = 0;
  for (; count < parts.size() && parts[count].size() <= std::min(room, kSmallPart); ++count)
    room -= parts[count].size();
  return count;
}

}  // namespace

TlsStream::TlsStream(std::shared_ptr<const TlsContext> context, const BIO_METHOD* method,
                     UniqueFd socket, TlsHandshake::Role role, int expected_rank)
    : socket_(std::move(socket)),
      rekey_records_(context->options().rekey_records),
      handshake_(
          std::make_unique<TlsHandshake>(std::move(context), method, socket_, role, expected_rank)),
      arrived_(kMaxRecord) {}

TlsStream::~TlsStream() {
  const bool can_say_goodbye = writer_ && !is_broken_ && num_flushed_ == num_sealed_;
  if (!can_say_goodbye) return;
  try {
    const std::span<const std::byte> message = kCloseNotify;
    seal_record(ContentType::kAlert, {&message, 1});
    flush();
  } catch (const std::exception&) {
    // The other end will see the connection end all the same.
  }
}

bool TlsStream::try_handshake() {
  if (writer_) return true;
  if (!handshake_->try_finish()) return false;
  auto records = handshake_->make_records();
  writer_.emplace(std::move(records.writer));
  reader_.emplace(std::move(records.reader));
  return true;
}

// ---- Sending

size_t TlsStream::try_send(ByteSpans parts) {
  DST_CHECK_AS(Unavailable, !is_broken_, "connection closed by the other end");
  if (batch_bytes_ == 0) {
    change_key_if_due();
    seal_batch(parts);
  }
  return flush() ? std::exchange(batch_bytes_, 0) : 0;
}

void TlsStream::seal_batch(ByteSpans parts) {
  while (!parts.empty() && batch_bytes_ < kBatchBytes) {
    if (const size_t count = count_small(parts, kBatchBytes - batch_bytes_)) {
      seal_record(ContentType::kApplicationData, parts.first(count));
      for (const auto& part : parts.first(count)) batch_bytes_ += part.size();
      parts = parts.subspan(count);
      continue;
    }
    for (auto rest = parts[0]; !rest.empty() && batch_bytes_ < kBatchBytes;) {
      const auto body =
          rest.first(std::min({rest.size(), kMaxRecordBody, kBatchBytes - batch_bytes_}));
      seal_record(ContentType::kApplicationData, {&body, 1});
      batch_bytes_ += body.size();
      rest = rest.subspan(body.size());
    }
    parts = parts.subspan(1);
  }
}

void TlsStream::seal_record(ContentType type, ByteSpans parts) {
  size_t room = kRecordOverhead;
  for (const auto& part : parts) room += part.size();
  if (records_.size() < num_sealed_ + room)
    records_.resize(std::max(2 * records_.size(), num_sealed_ + room));
  num_sealed_ += writer_->seal(type, parts, records_.data() + num_sealed_);
}

void TlsStream::change_key_if_due() {
  if (writer_->records_under_key() < rekey_records_ && !must_change_key_) return;
  must_change_key_ = false;
  records_.resize(std::max(records_.size(), num_sealed_ + RecordWriter::kKeyChangeBytes));
  num_sealed_ += writer_->change_key(records_.data() + num_sealed_);
}

bool TlsStream::flush() {
  while (num_flushed_ < num_sealed_) {
    const ssize_t sent = ::send(socket_.get(), records_.data() + num_flushed_,
                                num_sealed_ - num_flushed_, MSG_NOSIGNAL);
    if (sent < 0 && would_block()) return false;
    is_broken_ = sent < 0;
    if (is_broken_) break;
    num_flushed_ += static_cast<size_t>(sent);
  }
  num_sealed_ = num_flushed_ = 0;
  return true;
}

// ---- Receiving

// The reason of the end is kept for the next call if bytes came before it.
size_t TlsStream::try_recv(std::span<std::byte> bytes) {
  if (end_) std::rethrow_exception(end_);
  const size_t limit = std::min(bytes.size(), kReceiveBytes);
  size_t total = 0;
  try {
    while (total < limit) {
      const size_t taken = take(bytes.subspan(total));
      total += taken;
      if (taken == 0 && !fill()) break;
    }
  } catch (const Error& error) {
    end_ = std::current_exception();
    if (dynamic_cast<const DataCorruption*>(&error))
      log_warning("the connection with rank ", proven_rank(), " ends: ", error.what());
    if (total == 0) throw;
  }
  has_received_ = has_received_ || total > 0;
  return total;
}

size_t TlsStream::take(std::span<std::byte> bytes) {
  while (opened_.empty()) {
    const auto record =
        find_record(std::span(arrived_).subspan(num_taken_, num_arrived_ - num_taken_));
    if (!record) return 0;
    num_taken_ += record->size();
    const bool has_room = RecordReader::max_body(*record) <= bytes.size();
    std::byte* out = has_room ? bytes.data() : record->data() + kRecordHeader;
    size_t size = 0;
    const ContentType type = reader_->open(*record, out, size);
    if (type != ContentType::kApplicationData)
      handle(type, {out, size});
    else if (has_room && size > 0)
      return size;
    else if (!has_room)
      opened_ = {out, size};
  }
  const size_t count = std::min(bytes.size(), opened_.size());
  std::copy_n(opened_.begin(), count, bytes.begin());
  opened_ = opened_.subspan(count);
  return count;
}

bool TlsStream::fill() {
  const bool was_full = num_arrived_ == arrived_.size();
  std::memmove(arrived_.data(), arrived_.data() + num_taken_, num_arrived_ - num_taken_);
  num_arrived_ -= std::exchange(num_taken_, 0);
  if (was_full) arrived_.resize(kReadBytes);
  const ssize_t received =
      ::recv(socket_.get(), arrived_.data() + num_arrived_, arrived_.size() - num_arrived_, 0);
  if (received < 0 && would_block()) return false;
  DST_CHECK_AS(Unavailable, received != 0, "connection closed by the other end");
  DST_CHECK_AS(Unavailable, received > 0, "connection closed: ", std::strerror(errno));
  num_arrived_ += static_cast<size_t>(received);
  return true;
}

void TlsStream::handle(ContentType type, std::span<const std::byte> body) {
  if (type == ContentType::kAlert) handle_alert(body);
  const auto kind = static_cast<HandshakeType>(body.empty() ? std::byte{} : body[0]);
  const bool is_key_update = kind == HandshakeType::kKeyUpdate && body.size() == 5;
  DST_CHECK_AS(DataCorruption,
               type == ContentType::kHandshake &&
                   (is_key_update || kind == HandshakeType::kNewSessionTicket),
               "a TLS record of type ", static_cast<int>(type), " with message ",
               static_cast<int>(kind), ", which has no place after the handshake");
  if (!is_key_update) return;  // nothing is ever resumed
  reader_->change_key();
  must_change_key_ = must_change_key_ || body[4] == std::byte{1};
}

void TlsStream::handle_alert(std::span<const std::byte> body) const {
  const int alert = body.size() == 2 ? std::to_integer<int>(body[1]) : SSL_AD_DECODE_ERROR;
  DST_CHECK_AS(Unavailable, alert != SSL_AD_CLOSE_NOTIFY, "connection closed by the other end");
  if (!has_received_) handshake_->throw_refused_by_alert(alert);
  throw Unavailable(
      concat("connection closed by the other end: ", SSL_alert_desc_string_long(alert)));
}

}  // namespace deepseek_train::collectives
