#include <cstdio>
#include <map>
#include <mutex>

#include "deepseek_train/core/log.h"
#include "deepseek_train/core/trace.h"

namespace deepseek_train {
namespace {

constexpr size_t kMaxSpans = 200'000;

std::string json_string(std::string_view text) {
  std::string json = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      json += '\\';
      json += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\u%04x", c);
      json += escape;
    } else {
      json += c;
    }
  }
  return json + '"';
}

class ChromeTrace final : public TraceSink {
 public:
  ChromeTrace(Env& env, std::string path, int rank)
      : env_(env), path_(std::move(path)), rank_(rank) {}

  ~ChromeTrace() override {
    try {
      write_text(env_, path_, json());
    } catch (const std::exception& error) {
      log_error("the trace is lost: ", error.what());
    }
  }

  void record(std::string_view lane, std::string_view name, TimePoint begin, TimePoint end,
              const TraceDetails& details) override {
    std::lock_guard lock(mutex_);
    if (++num_spans_ > kMaxSpans) return;
    const int lane_number =
        lanes_.try_emplace(std::string(lane), static_cast<int>(lanes_.size())).first->second;
    spans_ += concat(",\n{\"ph\":\"X\",\"pid\":", rank_, ",\"tid\":", lane_number,
                     ",\"ts\":", microseconds(begin.time_since_epoch()),
                     ",\"dur\":", microseconds(end - begin), ",\"name\":", json_string(name));
    if (!details.empty()) {
      const char* separator = ",\"args\":{";
      for (const auto& [key, value] : details) {
        spans_ += concat(separator, json_string(key), ":", json_string(value));
        separator = ",";
      }
      spans_ += '}';
    }
    spans_ += '}';
  }

 private:
  static std::string microseconds(std::chrono::nanoseconds time) {
    return fixed(static_cast<double>(time.count()) / 1e3, 3);
  }

  std::string metadata(std::string_view kind, int lane, std::string_view name) const {
    return concat("{\"ph\":\"M\",\"pid\":", rank_, ",\"tid\":", lane,
                  ",\"name\":", json_string(kind), ",\"args\":{\"name\":", json_string(name), "}}");
  }

  std::string json() const {
    std::string head = "{\"traceEvents\":[\n" + metadata("process_name", 0, concat("rank ", rank_));
    for (const auto& [lane, number] : lanes_) head += ",\n" + metadata("thread_name", number, lane);
    const size_t left_out = num_spans_ > kMaxSpans ? num_spans_ - kMaxSpans : 0;
    return concat(head, spans_,
                  "\n],\"displayTimeUnit\":\"ms\",\"otherData\":{\"spans_left_out\":", left_out,
                  "}}\n");
  }

  Env& env_;
  const std::string path_;
  const int rank_;
  std::mutex mutex_;
  std::map<std::string, int> lanes_;
  std::string spans_;
  size_t num_spans_ = 0;
};

}  // namespace

std::unique_ptr<TraceSink> make_chrome_trace(Env& env, std::string path, int rank) {
  return std::make_unique<ChromeTrace>(env, std::move(path), rank);
}

}  // namespace deepseek_train
