// Files, behind one interface: tests inject faults through it, and encryption will be a decorator
// of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace deepseek_train {

// A whole file, readable at any offset. Thread-safe. The bytes live as long as the object.
class ReadableFile {
 public:
  virtual ~ReadableFile() = default;
  virtual const std::string& path() const = 0;
  virtual std::span<const std::byte> bytes() const = 0;

  // Two hints for part of bytes(); a file that is not mapped has nothing to do.
  // Brings the part into memory in one step, faster than page by page as touched. Throws
  // Unavailable where it cannot be read: the file was cut after it was opened, or the disk fails.
  // (Merely touching such bytes of a mapped file would end the process with SIGBUS.)
  virtual void populate(std::span<const std::byte> part) const { (void)part; }
  // The part is not needed soon: it no longer counts as memory of this process. Reading it again
  // is allowed and brings it back.
  virtual void release(std::span<const std::byte> part) const { (void)part; }
};

// A file being written under a temporary name. commit() syncs it and renames it into place in one
// step; without commit() the destructor removes it, so nothing half-written is ever seen under the
// final name. One thread at a time.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  // Throws Unavailable (disk full, with the bytes asked for) or PermissionDenied.
  virtual void append(std::span<const std::byte> bytes) = 0;
  virtual void commit() = 0;
  void append(std::string_view text) { append(std::as_bytes(std::span(text.data(), text.size()))); }
};

// Access to a file system. Thread-safe. Every error names the path.
class Env {
 public:
  virtual ~Env() = default;
  // Maps the file for reading: no copy, pages come as touched. Throws NotFound, PermissionDenied.
  virtual std::unique_ptr<ReadableFile> open(const std::string& path) = 0;
  // Creates missing parent folders.
  virtual std::unique_ptr<WritableFile> create(const std::string& path) = 0;
  virtual bool exists(const std::string& path) = 0;
  virtual uint64_t file_size(const std::string& path) = 0;
  // Names (not paths) of a folder's entries, sorted.
  virtual std::vector<std::string> list(const std::string& folder) = 0;
  virtual void make_folders(const std::string& folder) = 0;
  // Renames a file or folder and syncs the parent folder.
  virtual void rename(const std::string& from, const std::string& to) = 0;
  // Removes a file or a whole folder; nothing happens if it is absent.
  virtual void remove_all(const std::string& path) = 0;
  // The real path for libraries that open files themselves (HDF5), or an error if there is none
  // (encrypted files).
  virtual std::string native_path(const std::string& path) = 0;
};

// The machine's own file system. One stateless object for the whole process.
Env& posix_env();

std::string read_text(Env& env, const std::string& path);
// Writes the whole text and commits it.
void write_text(Env& env, const std::string& path, std::string_view text);
// "a/b" + "c" -> "a/b/c".
std::string join_path(std::string_view folder, std::string_view name);

}  // namespace deepseek_train
