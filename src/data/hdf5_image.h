// HDF5 files as bytes in memory. The library never opens a file of its own, so encryption, fault
// injection and atomic renaming all happen in Env, and a file can be authenticated before HDF5
// parses it.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "src/data/hdf5_handle.h"

namespace deepseek_train::data {

// Opens the bytes of a file for reading, without copying them; they must outlive the handle. Throws
// DataCorruption.
Hdf5Handle open_hdf5_image(std::span<const std::byte> bytes);

// An HDF5 file that is written into memory. Needs an Hdf5Session around its whole life.
class Hdf5ImageWriter {
 public:
  // `expected_bytes` saves copies while the image grows; it may be wrong.
  explicit Hdf5ImageWriter(size_t expected_bytes);
  Hdf5ImageWriter(const Hdf5ImageWriter&) = delete;
  Hdf5ImageWriter& operator=(const Hdf5ImageWriter&) = delete;
  hid_t file() const { return file_.get(); }
  // Closes the file and gives its bytes; nothing can be written afterwards.
  std::vector<std::byte> finish();

 private:
  std::vector<std::byte> image_;  // before file_, whose closing still writes to it
  Hdf5Handle file_;
};

}  // namespace deepseek_train::data
