// Shared by the data tests.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "deepseek_train/core/env.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/data/dataset.h"

namespace deepseek_train::data {

// A folder of the test's own, removed at its end.
class FolderTest : public testing::Test {
 protected:
  FolderTest() : folder_(join_path(testing::TempDir(), concat("dst_data_", ::getpid()))) {
    env_.remove_all(folder_);
    env_.make_folders(folder_);
  }
  ~FolderTest() override { env_.remove_all(folder_); }
  std::string path(std::string_view name) const { return join_path(folder_, name); }
  std::string write(std::string_view name, std::string_view text) {
    write_text(env_, path(name), text);
    return path(name);
  }

  Env& env_ = posix_env();
  std::string folder_;
};

// The machine's own files; faults are put in by overriding.
class PassingEnv : public Env {
 public:
  std::unique_ptr<ReadableFile> open(const std::string& path) override { return disk_.open(path); }
  std::unique_ptr<WritableFile> create(const std::string& path) override {
    return disk_.create(path);
  }
  bool exists(const std::string& path) override { return disk_.exists(path); }
  uint64_t file_size(const std::string& path) override { return disk_.file_size(path); }
  std::vector<std::string> list(const std::string& folder) override { return disk_.list(folder); }
  void make_folders(const std::string& folder) override { disk_.make_folders(folder); }
  void rename(const std::string& from, const std::string& to) override { disk_.rename(from, to); }
  void remove_all(const std::string& path) override { disk_.remove_all(path); }
  // No path of its own, as with encrypted files: whoever is tested with this must do without.
  std::string native_path(const std::string& path) override {
    throw Unavailable("no native path for " + path);
  }

 private:
  Env& disk_ = posix_env();
};

// Runs `action` and expects ErrorType with every one of `pieces` in its text.
template <typename ErrorType, typename Action>
void expect_error(Action action, const std::vector<std::string>& pieces) {
  try {
    action();
  } catch (const ErrorType& error) {
    for (const std::string& piece : pieces)
      EXPECT_NE(std::string(error.what()).find(piece), std::string::npos)
          << "found: " << error.what() << "\nwanted: " << piece;
    return;
  } catch (const std::exception& error) {
    FAIL() << "another error: " << error.what();
  }
  FAIL() << "no error, wanted one with " << concat(pieces);
}

// `count` documents of 1 to 40 tokens, different from each other, with a span over the second half.
inline std::vector<Document> make_documents(int64_t count) {
  std::vector<Document> documents;
  for (int64_t i = 0; i < count; ++i) {
    Document document;
    const int64_t length = 1 + (i * 17) % 40;
    for (int64_t t = 0; t < length; ++t)
      document.tokens.push_back(static_cast<uint32_t>(1000 * i + t));
    document.loss_spans.push_back({length / 2, length});
    documents.push_back(document);
  }
  return documents;
}

}  // namespace deepseek_train::data
