// A fresh folder for one test, removed at its end.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "deepseek_train/core/env.h"
#include "deepseek_train/core/strings.h"

namespace deepseek_train::formats {

class TemporaryFolder {
 public:
  TemporaryFolder() : path_(join_path(testing::TempDir(), concat("dst_formats_", ::getpid()))) {
    posix_env().make_folders(path_);
  }
  ~TemporaryFolder() { posix_env().remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string file(std::string_view name) const { return join_path(path_, name); }

 private:
  std::string path_;
};

// The text of the error that `action` throws; a test failure if it throws none of this type.
template <typename ErrorType, typename Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const ErrorType& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another type of error: " << error.what();
    return "";
  }
  ADD_FAILURE() << "no error was thrown";
  return "";
}

inline bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != text.npos;
}

}  // namespace deepseek_train::formats
