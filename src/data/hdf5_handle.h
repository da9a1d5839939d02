// HDF5's C interface made safe: one owner per identifier, one lock, errors as exceptions.
#pragma once

#include <hdf5.h>

#include <mutex>
#include <string>
#include <utility>

#include "deepseek_train/core/error.h"

namespace deepseek_train::data {

// The one owner of an HDF5 identifier, with the function that closes it.
class Hdf5Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Hdf5Handle(hid_t id, Close close) : id_(id), close_(close) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept
      : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}
  Hdf5Handle& operator=(Hdf5Handle&&) = delete;
  ~Hdf5Handle() {
    if (id_ >= 0) close_(id_);
  }
  hid_t get() const { return id_; }
  // Closes now; negative on failure. For files being written, where closing can fail.
  herr_t close() { return close_(std::exchange(id_, H5I_INVALID_HID)); }

 private:
  hid_t id_;
  Close close_;
};

// Held around every use of HDF5: takes the process-wide lock (the library's state is global, and
// not every build of it is thread-safe) and keeps the library from printing its errors.
class Hdf5Session {
 public:
  Hdf5Session();
  ~Hdf5Session();
  Hdf5Session(const Hdf5Session&) = delete;
  Hdf5Session& operator=(const Hdf5Session&) = delete;

 private:
  std::unique_lock<std::mutex> lock_;
  H5E_auto2_t printer_ = nullptr;
  void* printer_data_ = nullptr;
};

// What HDF5 said about its last error: the innermost reason.
std::string hdf5_error_text();

// The result of an HDF5 call, or an ErrorType with `action` and HDF5's reason.
template <typename ErrorType, typename Result>
Result hdf5_check(Result result, const std::string& action) {
  if (result < 0) throw ErrorType(concat(action, ": ", hdf5_error_text()));
  return result;
}

}  // namespace deepseek_train::data
