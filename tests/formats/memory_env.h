// A file system of one file in memory: thousands of damaged files cost no disk.
#pragma once

#include <string>

#include "deepseek_train/core/env.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::formats {

class MemoryEnv final : public Env {
 public:
  explicit MemoryEnv(std::string_view bytes) : bytes_(bytes) {}

  std::unique_ptr<ReadableFile> open(const std::string& path) override {
    return std::make_unique<File>(path, bytes_);
  }
  uint64_t file_size(const std::string&) override { return bytes_.size(); }
  bool exists(const std::string&) override { return true; }

  std::unique_ptr<WritableFile> create(const std::string&) override { refuse(); }
  std::vector<std::string> list(const std::string&) override { refuse(); }
  void make_folders(const std::string&) override { refuse(); }
  void rename(const std::string&, const std::string&) override { refuse(); }
  void remove_all(const std::string&) override { refuse(); }
  std::string native_path(const std::string&) override { refuse(); }

 private:
  // Its own copy, of exactly the file's size: an address sanitizer sees a read past the end.
  class File final : public ReadableFile {
   public:
    File(const std::string& path, const std::string& bytes)
        : path_(path),
          bytes_(reinterpret_cast<const std::byte*>(bytes.data()),
                 reinterpret_cast<const std::byte*>(bytes.data()) + bytes.size()) {}
    const std::string& path() const override { return path_; }
    std::span<const std::byte> bytes() const override { return bytes_; }

   private:
    std::string path_;
    std::vector<std::byte> bytes_;
  };

  [[noreturn]] static void refuse() { throw Internal("this test's file system only reads"); }

  std::string bytes_;
};

}  // namespace deepseek_train::formats
