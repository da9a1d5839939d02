#include "src/data/hdf5_handle.h"

namespace deepseek_train::data {
namespace {

// Made before the library's first use. HDF5 1.10 loses a little memory for every header with a
// wrong checksum, and its clean-up at exit would complain of that on standard error; we close
// everything ourselves and need no clean-up.
struct Library {
  Library() { H5dont_atexit(); }
  std::mutex lock;
};

std::mutex& library_lock() {
  static Library library;
  return library.lock;
}

// H5Ewalk2's callback: keeps the text of the first entry, which is the innermost.
herr_t keep_first(unsigned, const H5E_error2_t* entry, void* text) {
  auto* kept = static_cast<std::string*>(text);
  if (kept->empty() && entry->desc) *kept = entry->desc;
  return 0;
}

}  // namespace

Hdf5Session::Hdf5Session() : lock_(library_lock()) {
  H5Eget_auto2(H5E_DEFAULT, &printer_, &printer_data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Hdf5Session::~Hdf5Session() { H5Eset_auto2(H5E_DEFAULT, printer_, printer_data_); }

std::string hdf5_error_text() {
  std::string text;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &text);
  return text.empty() ? "HDF5 gives no reason" : "HDF5 says: " + text;
}

}  // namespace deepseek_train::data
