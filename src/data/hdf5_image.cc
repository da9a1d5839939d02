#include "src/data/hdf5_image.h"

#include <cstring>
#include <new>

namespace deepseek_train::data {
namespace {

constexpr size_t kGrowthBytes = size_t{1} << 20;

// HDF5 asks a file image's owner for memory through callbacks with one user pointer. It copies and
// frees that pointer with every property list; ours is owned elsewhere.
void* share_owner(void* owner) { return owner; }
herr_t leave_owner(void*) { return 0; }
herr_t leave_memory(void*, H5FD_file_image_op_t, void*) { return 0; }

// Reading: "allocate" and "copy" hand out the very bytes we have. The file is opened read-only, so
// none is changed.
void* lend_bytes(size_t, H5FD_file_image_op_t, void* bytes) { return bytes; }
void* skip_copy(void* to, const void*, size_t, H5FD_file_image_op_t, void*) { return to; }
void* refuse_growth(void*, size_t, H5FD_file_image_op_t, void*) { return nullptr; }

// Writing: the image lives in a vector, which also sets new bytes to zero and so keeps the file
// reproducible.
void* grow_image(void*, size_t size, H5FD_file_image_op_t, void* image) {
  auto* bytes = static_cast<std::vector<std::byte>*>(image);
  try {
    bytes->resize(size);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
  return bytes->data();
}
void* allocate_image(size_t size, H5FD_file_image_op_t operation, void* image) {
  return grow_image(nullptr, size, operation, image);
}
void* copy_bytes(void* to, const void* from, size_t size, H5FD_file_image_op_t, void*) {
  return std::memcpy(to, from, size);
}

Hdf5Handle memory_access(H5FD_file_image_callbacks_t callbacks) {
  Hdf5Handle access(hdf5_check<Internal>(H5Pcreate(H5P_FILE_ACCESS), "HDF5 property list"),
                    H5Pclose);
  hdf5_check<Internal>(H5Pset_fapl_core(access.get(), kGrowthBytes, /*backing_store=*/false),
                       "HDF5 in-memory driver");
  hdf5_check<Internal>(H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG), "HDF5 close degree");
  hdf5_check<Internal>(H5Pset_file_image_callbacks(access.get(), &callbacks),
                       "HDF5 image callbacks");
  return access;
}

// No time stamps, so that the same content gives the same bytes. The 1.8 format has checksums on
// all metadata and room for attributes beyond 64 KiB, which a long provenance needs.
Hdf5Handle create_image(std::vector<std::byte>& image) {
  Hdf5Handle access = memory_access({.image_malloc = allocate_image,
                                     .image_memcpy = copy_bytes,
                                     .image_realloc = grow_image,
                                     .image_free = leave_memory,
                                     .udata_copy = share_owner,
                                     .udata_free = leave_owner,
                                     .udata = &image});
  hdf5_check<Internal>(H5Pset_libver_bounds(access.get(), H5F_LIBVER_V18, H5F_LIBVER_V18),
                       "HDF5 version");
  Hdf5Handle creation(hdf5_check<Internal>(H5Pcreate(H5P_FILE_CREATE), "HDF5 property list"),
                      H5Pclose);
  hdf5_check<Internal>(H5Pset_obj_track_times(creation.get(), false), "HDF5 time stamps");
  return {
      hdf5_check<Internal>(H5Fcreate("token store", H5F_ACC_TRUNC, creation.get(), access.get()),
                           "cannot create an HDF5 file in memory"),
      H5Fclose};
}

}  // namespace

Hdf5Handle open_hdf5_image(std::span<const std::byte> bytes) {
  DST_CHECK_AS(DataCorruption, !bytes.empty(), "the file is empty");
  auto* lent = const_cast<std::byte*>(bytes.data());
  Hdf5Handle access = memory_access({.image_malloc = lend_bytes,
                                     .image_memcpy = skip_copy,
                                     .image_realloc = refuse_growth,
                                     .image_free = leave_memory,
                                     .udata_copy = share_owner,
                                     .udata_free = leave_owner,
                                     .udata = lent});
  hdf5_check<Internal>(H5Pset_file_image(access.get(), lent, bytes.size()), "HDF5 file image");
  return {hdf5_check<DataCorruption>(H5Fopen("token store", H5F_ACC_RDONLY, access.get()),
                                     "not an HDF5 file, or cut"),
          H5Fclose};
}

Hdf5ImageWriter::Hdf5ImageWriter(size_t expected_bytes)
    : image_([=] {
        std::vector<std::byte> image;
        image.reserve(expected_bytes + kGrowthBytes);
        return image;
      }()),
      file_(create_image(image_)) {}

std::vector<std::byte> Hdf5ImageWriter::finish() {
  hdf5_check<Internal>(H5Fflush(file_.get(), H5F_SCOPE_GLOBAL), "cannot flush the HDF5 image");
  // Asked for no buffer, this gives the size without the driver's growth reserve.
  auto size = hdf5_check<Internal>(H5Fget_file_image(file_.get(), nullptr, 0), "HDF5 image size");
  hdf5_check<Internal>(file_.close(), "cannot close the HDF5 image");
  DST_ASSERT(static_cast<size_t>(size) <= image_.size(), "image of ", image_.size(),
             " bytes, HDF5 says ", size);
  image_.resize(static_cast<size_t>(size));
  return std::move(image_);
}

}  // namespace deepseek_train::data
