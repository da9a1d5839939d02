// Plain POSIX calls and no std::filesystem: libtorch.so exports parts of its own copy of it, which
// then replace the standard library's in the whole program and crash.
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "deepseek_train/core/env.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/core/unique_fd.h"

namespace deepseek_train {
namespace {

[[noreturn]] void throw_errno(std::string_view action, const std::string& path, int error) {
  auto message = concat("cannot ", action, " ", path, ": ", std::strerror(error));
  if (error == ENOENT) throw NotFound(message);
  if (error == EACCES || error == EPERM || error == EROFS) throw PermissionDenied(message);
  if (error == ENOSPC || error == EDQUOT || error == EFBIG)
    throw Unavailable(message + "; free some space or choose another output folder");
  throw Unavailable(message);
}

std::string parent_of(const std::string& path) {
  const auto slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Creates the folder and those above it; an existing one is no error.
void make_folders_or_throw(const std::string& folder) {
  if (::mkdir(folder.c_str(), 0755) == 0) return;
  if (errno == ENOENT && parent_of(folder) != folder) {
    make_folders_or_throw(parent_of(folder));
    if (::mkdir(folder.c_str(), 0755) == 0) return;
  }
  const int error = errno;
  struct stat status;
  if (error == EEXIST && ::stat(folder.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) return;
  throw_errno("create folder", folder, error);
}

int remove_entry(const char* path, const struct stat*, int, struct FTW*) { return ::remove(path); }

void sync_folder(const std::string& folder) {
  UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd) ::fsync(fd.get());
}

class MappedFile final : public ReadableFile {
 public:
  explicit MappedFile(const std::string& path) : path_(path) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) throw_errno("open", path, errno);
    struct stat status;
    if (::fstat(fd.get(), &status) != 0) throw_errno("open", path, errno);
    DST_CHECK(S_ISREG(status.st_mode), "cannot read ", path, ": it is not a file");
    size_ = static_cast<size_t>(status.st_size);
    if (size_ == 0) return;
    data_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (data_ == MAP_FAILED) throw_errno("map", path, errno);
  }
  ~MappedFile() override {
    if (size_ > 0) ::munmap(data_, size_);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const override { return path_; }
  std::span<const std::byte> bytes() const override {
    return {static_cast<const std::byte*>(data_), size_};
  }

  void populate(std::span<const std::byte> part) const override {
    const auto pages = pages_of(part);
    // Linux before 5.14 does not know the advice: there the pages come as touched.
    if (pages.empty() || advise(pages, MADV_POPULATE_READ) || errno == EINVAL) return;
    const auto begin = part.data() - bytes().data();
    throw Unavailable(concat("cannot read bytes ", begin, " to ", begin + part.size(), " of ",
                             path_, ": ", std::strerror(errno),
                             "; was the file cut while it was open, or does its disk fail?"));
  }
  void release(std::span<const std::byte> part) const override {
    const auto pages = pages_of(part);
    // The mapping is of a file and read-only: nothing is lost, whatever the answer.
    if (!pages.empty()) advise(pages, MADV_DONTNEED);
  }

 private:
  // The part from the start of its first page.
  std::span<const std::byte> pages_of(std::span<const std::byte> part) const {
    if (part.empty()) return {};
    static const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    const size_t before = static_cast<size_t>(part.data() - bytes().data()) % page;
    return {part.data() - before, part.size() + before};
  }
  static bool advise(std::span<const std::byte> pages, int advice) {
    return ::madvise(const_cast<std::byte*>(pages.data()), pages.size(), advice) == 0;
  }

  std::string path_;
  void* data_ = nullptr;
  size_t size_ = 0;
};

class PosixWritableFile final : public WritableFile {
 public:
  explicit PosixWritableFile(const std::string& path)
      : path_(path), temporary_(concat(path, ".partial-", ::getpid())) {
    make_folders_or_throw(parent_of(path));
    fd_.reset(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!fd_) throw_errno("create", path, errno);
  }
  ~PosixWritableFile() override {
    if (fd_) ::unlink(temporary_.c_str());
  }

  void append(std::span<const std::byte> bytes) override {
    while (!bytes.empty()) {
      ssize_t written =
          ::write(fd_.get(), bytes.data(), std::min<size_t>(bytes.size(), size_t{1} << 30));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) throw_errno(concat("write ", bytes.size(), " bytes to"), path_, errno);
      bytes = bytes.subspan(static_cast<size_t>(written));
    }
  }

  void commit() override {
    if (::fsync(fd_.get()) != 0) throw_errno("sync", path_, errno);
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) throw_errno("rename into", path_, errno);
    fd_.reset();
    sync_folder(parent_of(path_));
  }

 private:
  std::string path_;
  std::string temporary_;
  UniqueFd fd_;
};

class PosixEnv final : public Env {
 public:
  std::unique_ptr<ReadableFile> open(const std::string& path) override {
    return std::make_unique<MappedFile>(path);
  }
  std::unique_ptr<WritableFile> create(const std::string& path) override {
    return std::make_unique<PosixWritableFile>(path);
  }
  bool exists(const std::string& path) override { return ::access(path.c_str(), F_OK) == 0; }
  uint64_t file_size(const std::string& path) override {
    struct stat status;
    if (::stat(path.c_str(), &status) != 0) throw_errno("find", path, errno);
    return static_cast<uint64_t>(status.st_size);
  }
  std::vector<std::string> list(const std::string& folder) override {
    std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(folder.c_str()), ::closedir);
    if (!entries) throw_errno("list", folder, errno);
    std::vector<std::string> names;
    while (const dirent* entry = ::readdir(entries.get())) {
      std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  void make_folders(const std::string& folder) override { make_folders_or_throw(folder); }
  void rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0)
      throw_errno(concat("rename ", from, " to"), to, errno);
    sync_folder(parent_of(to));
  }
  void remove_all(const std::string& path) override {
    if (::nftw(path.c_str(), remove_entry, /*nopenfd=*/16, FTW_DEPTH | FTW_PHYS) != 0 &&
        errno != ENOENT)
      throw_errno("remove", path, errno);
  }
  std::string native_path(const std::string& path) override { return path; }
};

}  // namespace

Env& posix_env() {
  static PosixEnv env;
  return env;
}

std::string read_text(Env& env, const std::string& path) {
  auto file = env.open(path);
  auto bytes = file->bytes();
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

void write_text(Env& env, const std::string& path, std::string_view text) {
  auto file = env.create(path);
  file->append(text);
  file->commit();
}

std::string join_path(std::string_view folder, std::string_view name) {
  if (folder.empty() || name.starts_with('/')) return std::string(name);
  return folder.ends_with('/') ? concat(folder, name) : concat(folder, "/", name);
}

}  // namespace deepseek_train
