#include "collectives/transport/tcp/silence_watch.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>

#include "deepseek_train/core/strings.h"
#include "deepseek_train/core/unique_fd.h"

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;

constexpr int kMissedBeats = 6;
constexpr auto kSilence = 620ms;
constexpr int kLatenessFactor = 6;

}  // namespace

bool SilenceWatch::is_lost(Clock::time_point now, bool is_on_time, Clock::duration lateness) {
  if (now - heard_ > kBeatInterval && is_on_time) ++num_missed_;
  return num_missed_ >= kMissedBeats && now - heard_ > kSilence + kLatenessFactor * lateness;
}

bool is_starved(int64_t pid, int64_t thread) {
  UniqueFd file(
      ::open(concat("/proc/", pid, "/task/", thread, "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  char text[512];
  const ssize_t length = file ? ::read(file.get(), text, sizeof(text) - 1) : -1;
  if (length <= 0) return false;
  text[length] = '\0';
  // The state follows the thread's name, which may itself hold brackets.
  const char* name_end = std::strrchr(text, ')');
  return name_end && name_end[1] == ' ' && (name_end[2] == 'R' || name_end[2] == 'D');
}

}  // namespace deepseek_train::collectives
