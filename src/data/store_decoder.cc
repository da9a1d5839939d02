#include <algorithm>

#include "deepseek_train/core/error.h"
#include "deepseek_train/data/token_store.h"
#include "src/data/hdf5_image.h"
#include "src/data/store_format.h"

namespace deepseek_train::data {
namespace {

// Opens an attribute that holds exactly one value, which everything in this file relies on.
Hdf5Handle open_attribute(hid_t file, const char* name) {
  auto exists = hdf5_check<DataCorruption>(H5Aexists(file, name), "cannot read the attributes");
  DST_CHECK_AS(DataCorruption, exists > 0, "no attribute ", name);
  Hdf5Handle attribute(hdf5_check<DataCorruption>(H5Aopen(file, name, H5P_DEFAULT), name),
                       H5Aclose);
  Hdf5Handle space(hdf5_check<DataCorruption>(H5Aget_space(attribute.get()), name), H5Sclose);
  auto count = H5Sget_simple_extent_npoints(space.get());
  DST_CHECK_AS(DataCorruption, count == 1, "attribute ", name, " has ", count, " values, wanted 1");
  return attribute;
}

int64_t read_integer(hid_t file, const char* name) {
  Hdf5Handle attribute = open_attribute(file, name);
  Hdf5Handle type(hdf5_check<DataCorruption>(H5Aget_type(attribute.get()), name), H5Tclose);
  DST_CHECK_AS(DataCorruption, H5Tget_class(type.get()) == H5T_INTEGER, "attribute ", name,
               " is no integer");
  int64_t value = 0;
  hdf5_check<DataCorruption>(H5Aread(attribute.get(), H5T_NATIVE_INT64, &value), name);
  return value;
}

std::string read_text(hid_t file, const char* name, size_t file_bytes) {
  Hdf5Handle attribute = open_attribute(file, name);
  Hdf5Handle type(hdf5_check<DataCorruption>(H5Aget_type(attribute.get()), name), H5Tclose);
  DST_CHECK_AS(DataCorruption,
               H5Tget_class(type.get()) == H5T_STRING && H5Tis_variable_str(type.get()) == 0,
               "attribute ", name, " is no fixed-length string");
  size_t size = H5Tget_size(type.get());
  DST_CHECK_AS(DataCorruption, 0 < size && size <= file_bytes, "attribute ", name, " claims ", size,
               " bytes in a file of ", file_bytes);
  std::string text(size, '\0');
  hdf5_check<DataCorruption>(H5Aread(attribute.get(), type.get(), text.data()), name);
  text.resize(text.find_last_not_of('\0') + 1);
  return text;
}

// Shape of a dataset of the exact type, `columns` wide (0: one-dimensional), chunked and
// unfiltered; no addresses yet.
ChunkTable read_shape(hid_t dataset, const std::string& name, hid_t type, hsize_t columns,
                      size_t file_bytes) {
  Hdf5Handle own_type(hdf5_check<DataCorruption>(H5Dget_type(dataset), name), H5Tclose);
  DST_CHECK_AS(DataCorruption, H5Tequal(own_type.get(), type) > 0, name,
               " has the wrong element type");
  Hdf5Handle space(hdf5_check<DataCorruption>(H5Dget_space(dataset), name), H5Sclose);
  const int rank = columns == 0 ? 1 : 2;
  const int found_rank = H5Sget_simple_extent_ndims(space.get());
  DST_CHECK_AS(DataCorruption, found_rank == rank, name, " has ", found_rank,
               " dimensions, wanted ", rank);
  hsize_t shape[2] = {0, 0}, chunk[2] = {0, 0};
  H5Sget_simple_extent_dims(space.get(), shape, nullptr);
  DST_CHECK_AS(DataCorruption, shape[1] == columns, name, " has ", shape[1], " columns, wanted ",
               columns);
  Hdf5Handle creation(hdf5_check<DataCorruption>(H5Dget_create_plist(dataset), name), H5Pclose);
  DST_CHECK_AS(DataCorruption,
               H5Pget_layout(creation.get()) == H5D_CHUNKED && H5Pget_nfilters(creation.get()) == 0,
               name, " is not stored in unfiltered chunks");
  hdf5_check<DataCorruption>(H5Pget_chunk(creation.get(), rank, chunk), name);
  const hsize_t row_bytes = H5Tget_size(type) * std::max<hsize_t>(columns, 1);
  // A chunk that was never written takes no space in the file, so a claimed size proves nothing by
  // itself.
  DST_CHECK_AS(DataCorruption, shape[0] <= file_bytes / row_bytes, name, " claims ", shape[0],
               " rows in a file of ", file_bytes, " bytes");
  DST_CHECK_AS(
      DataCorruption,
      chunk[1] == columns && 0 < chunk[0] && (shape[0] == 0 || chunk[0] <= file_bytes / row_bytes),
      name, " has chunks of ", chunk[0], " x ", chunk[1]);
  return {shape[0], row_bytes, chunk[0], {}};
}

// HDF5 is asked for the chunks' places only and never reads them: it would trust sizes that are not
// protected.
ChunkTable locate_chunks(hid_t file, const std::string& name, hid_t type, hsize_t columns,
                         size_t file_bytes) {
  Hdf5Handle dataset(hdf5_check<DataCorruption>(H5Dopen2(file, name.c_str(), H5P_DEFAULT),
                                                concat("no dataset ", name)),
                     H5Dclose);
  ChunkTable table = read_shape(dataset.get(), name, type, columns, file_bytes);
  for (hsize_t first = 0; first < table.num_rows; first += table.chunk_rows) {
    const hsize_t place[2] = {first, 0};
    unsigned filters = 0;
    haddr_t address = HADDR_UNDEF;
    hsize_t size = 0;
    hdf5_check<DataCorruption>(
        H5Dget_chunk_info_by_coord(dataset.get(), place, &filters, &address, &size),
        concat("cannot find a chunk of ", name));
    DST_CHECK_AS(DataCorruption,
                 address != HADDR_UNDEF && size == table.chunk_rows * table.row_bytes &&
                     size <= file_bytes && address <= file_bytes - size,
                 "the chunk of ", name, " from row ", first, " (", size,
                 " bytes) is not inside the file of ", file_bytes);
    table.addresses.push_back(address);
  }
  return table;
}

std::vector<uint64_t> read_numbers(hid_t file, const std::string& name, hsize_t columns,
                                   std::span<const std::byte> bytes) {
  const ChunkTable table = locate_chunks(file, name, H5T_STD_U64LE, columns, bytes.size());
  std::vector<uint64_t> values(table.num_rows * std::max<hsize_t>(columns, 1));
  copy_rows(table, bytes, 0, table.num_rows, values.data());
  return values;
}

// A block of foreign bytes before the HDF5 file would shift every address.
void check_no_user_block(hid_t file) {
  Hdf5Handle creation(hdf5_check<DataCorruption>(H5Fget_create_plist(file), "file properties"),
                      H5Pclose);
  hsize_t size = 0;
  hdf5_check<DataCorruption>(H5Pget_userblock(creation.get(), &size), "user block");
  DST_CHECK_AS(DataCorruption, size == 0, "the file begins with a user block of ", size, " bytes");
}

void check_offsets(const StoreIndex& index) {
  const auto& offsets = index.offsets;
  DST_CHECK_AS(
      DataCorruption,
      offsets.size() >= 2 && offsets.front() == 0 && offsets.back() == index.tokens.num_rows,
      "/offsets (", offsets.size(), " values) does not run from 0 to the ", index.tokens.num_rows,
      " tokens");
  auto fall = std::adjacent_find(offsets.begin(), offsets.end(), std::greater_equal<>());
  DST_CHECK_AS(DataCorruption, fall == offsets.end(), "/offsets does not rise at document ",
               fall - offsets.begin());
}

void check_spans(const StoreIndex& index) {
  uint64_t previous_document = 0, previous_end = 0;
  for (size_t i = 0; i < index.loss_spans.size(); i += 3) {
    const uint64_t document = index.loss_spans[i], begin = index.loss_spans[i + 1],
                   end = index.loss_spans[i + 2];
    DST_CHECK_AS(
        DataCorruption, document >= previous_document && document < index.offsets.size() - 1,
        "/loss_spans row ", i / 3, " names document ", document, ", out of order or out of range");
    if (document != previous_document) previous_end = 0;
    const uint64_t length = index.offsets[document + 1] - index.offsets[document];
    DST_CHECK_AS(DataCorruption, previous_end <= begin && begin < end && end <= length,
                 "/loss_spans row ", i / 3, " is [", begin, ", ", end, ") in a document of ",
                 length, " tokens, the span before it ends at ", previous_end);
    previous_document = document;
    previous_end = end;
  }
}

}  // namespace

StoreIndex decode_store(std::span<const std::byte> bytes) {
  Hdf5Session session;
  Hdf5Handle file = open_hdf5_image(bytes);
  const int64_t version = read_integer(file.get(), "format_version");
  DST_CHECK(version <= kTokenStoreFormatVersion, "token store of format version ", version,
            ", this program reads up to ", kTokenStoreFormatVersion,
            "; use a later program or run prepare again");
  DST_CHECK_AS(DataCorruption, version == kTokenStoreFormatVersion, "format_version is ", version);
  check_no_user_block(file.get());
  StoreIndex index;
  index.attributes.tokenizer_sha256 = read_text(file.get(), "tokenizer_sha256", bytes.size());
  index.attributes.provenance = read_text(file.get(), "provenance", bytes.size());
  index.tokens = locate_chunks(file.get(), "/tokens", H5T_STD_U32LE, 0, bytes.size());
  index.offsets = read_numbers(file.get(), "/offsets", 0, bytes);
  index.loss_spans = read_numbers(file.get(), "/loss_spans", 3, bytes);
  check_offsets(index);
  check_spans(index);
  return index;
}

}  // namespace deepseek_train::data
