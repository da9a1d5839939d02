// Errors of the library. All derive from Error; what() names the value found, the value wanted and
// what to do.
#pragma once

#include <stdexcept>
#include <string>

#include "deepseek_train/core/strings.h"

namespace deepseek_train {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The caller's mistake: an argument, a recipe or a combination that cannot work.
class InvalidArgument : public Error {
  using Error::Error;
};
// A file, tensor or name that should exist does not.
class NotFound : public Error {
  using Error::Error;
};
// A bounded wait ended. The text names whom or what was waited for.
class Timeout : public Error {
  using Error::Error;
};
// A peer or resource is gone: a dead rank, a full disk, a closed connection.
class Unavailable : public Error {
  using Error::Error;
};
// Another rank failed first and told us. That rank reports the cause; this one only stops.
class PeerFailure : public Unavailable {
  using Unavailable::Unavailable;
};
// Bytes that cannot be what they claim to be: cut, altered or of another format.
class DataCorruption : public Error {
  using Error::Error;
};
class PermissionDenied : public Error {
  using Error::Error;
};
// A mistake of ours.
class Internal : public Error {
  using Error::Error;
};

namespace detail {
[[noreturn]] void throw_check_failure(const char* file, int line, const char* condition,
                                      const std::string& message);
}  // namespace detail

}  // namespace deepseek_train

// A caller's mistake: throws InvalidArgument with the message. The message says found, wanted, what
// to do.
#define DST_CHECK(condition, ...)                                                     \
  do {                                                                                \
    if (!(condition)) [[unlikely]]                                                    \
      throw ::deepseek_train::InvalidArgument(::deepseek_train::concat(__VA_ARGS__)); \
  } while (false)

// As DST_CHECK with the error's type named: DST_CHECK_AS(NotFound, exists, "no file ", path).
#define DST_CHECK_AS(ErrorType, condition, ...)                                 \
  do {                                                                          \
    if (!(condition)) [[unlikely]]                                              \
      throw ::deepseek_train::ErrorType(::deepseek_train::concat(__VA_ARGS__)); \
  } while (false)

// A mistake of ours: throws Internal with the place and the condition.
#define DST_ASSERT(condition, ...)                                                          \
  do {                                                                                      \
    if (!(condition)) [[unlikely]]                                                          \
      ::deepseek_train::detail::throw_check_failure(__FILE__, __LINE__, #condition,         \
                                                    ::deepseek_train::concat(__VA_ARGS__)); \
  } while (false)
