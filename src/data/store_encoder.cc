#include <algorithm>
#include <bit>

#include "deepseek_train/core/error.h"
#include "deepseek_train/data/token_store.h"
#include "src/data/hdf5_image.h"
#include "src/data/store_format.h"

namespace deepseek_train::data {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the store's bytes are copied as they lie");

// A chunk of tokens is 256 KiB. Small datasets get one chunk of their own size: HDF5 stores chunks
// whole.
constexpr hsize_t kChunkRows = 65536;

void write_dataset(hid_t file, const char* name, hid_t type, const std::vector<hsize_t>& shape,
                   const void* values) {
  const auto rank = static_cast<int>(shape.size());
  std::vector<hsize_t> most = shape;
  most[0] = H5S_UNLIMITED;
  std::vector<hsize_t> chunk = shape;
  chunk[0] = std::clamp<hsize_t>(shape[0], 1, kChunkRows);
  Hdf5Handle space(hdf5_check<Internal>(H5Screate_simple(rank, shape.data(), most.data()), name),
                   H5Sclose);
  Hdf5Handle creation(hdf5_check<Internal>(H5Pcreate(H5P_DATASET_CREATE), name), H5Pclose);
  hdf5_check<Internal>(H5Pset_chunk(creation.get(), rank, chunk.data()), name);
  hdf5_check<Internal>(H5Pset_obj_track_times(creation.get(), false), name);
  Hdf5Handle dataset(hdf5_check<Internal>(H5Dcreate2(file, name, type, space.get(), H5P_DEFAULT,
                                                     creation.get(), H5P_DEFAULT),
                                          name),
                     H5Dclose);
  if (shape[0] > 0)
    hdf5_check<Internal>(H5Dwrite(dataset.get(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values),
                         name);
}

void write_attribute(hid_t file, const char* name, hid_t type, const void* value) {
  Hdf5Handle space(hdf5_check<Internal>(H5Screate(H5S_SCALAR), name), H5Sclose);
  Hdf5Handle attribute(
      hdf5_check<Internal>(H5Acreate2(file, name, type, space.get(), H5P_DEFAULT, H5P_DEFAULT),
                           name),
      H5Aclose);
  hdf5_check<Internal>(H5Awrite(attribute.get(), type, value), name);
}

void write_text(hid_t file, const char* name, const std::string& text) {
  Hdf5Handle type(hdf5_check<Internal>(H5Tcopy(H5T_C_S1), name), H5Tclose);
  hdf5_check<Internal>(H5Tset_size(type.get(), text.size()), name);
  hdf5_check<Internal>(H5Tset_strpad(type.get(), H5T_STR_NULLPAD), name);
  hdf5_check<Internal>(H5Tset_cset(type.get(), H5T_CSET_UTF8), name);
  write_attribute(file, name, type.get(), text.data());
}

}  // namespace

std::vector<std::byte> encode_store(const StoreAttributes& attributes,
                                    std::span<const uint32_t> tokens,
                                    std::span<const uint64_t> offsets,
                                    std::span<const uint64_t> loss_spans) {
  Hdf5Session session;
  Hdf5ImageWriter writer(tokens.size_bytes() + offsets.size_bytes() + loss_spans.size_bytes());
  hid_t file = writer.file();
  const int32_t version = kTokenStoreFormatVersion;
  write_attribute(file, "format_version", H5T_STD_I32LE, &version);
  write_text(file, "tokenizer_sha256", attributes.tokenizer_sha256);
  write_text(file, "provenance", attributes.provenance);
  write_dataset(file, "tokens", H5T_STD_U32LE, {tokens.size()}, tokens.data());
  write_dataset(file, "offsets", H5T_STD_U64LE, {offsets.size()}, offsets.data());
  write_dataset(file, "loss_spans", H5T_STD_U64LE, {loss_spans.size() / 3, 3}, loss_spans.data());
  return writer.finish();
}

}  // namespace deepseek_train::data
