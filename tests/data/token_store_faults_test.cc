// Stores that are cut, altered, foreign or malicious, and disks that are full.
#include <hdf5.h>
#include <sys/resource.h>

#include <csignal>
#include <functional>

#include "deepseek_train/data/token_store.h"
#include "tests/data/support.h"
#include "tests/support/damage.h"
#include "tests/support/trials.h"

// Read by the leak checker of sanitizer builds: HDF5 1.10 loses an object header for every wrong
// checksum it meets.
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5\n"; }

namespace deepseek_train::data {
namespace {

// Takes `capacity` bytes, then is full.
class SmallDisk final : public PassingEnv {
 public:
  explicit SmallDisk(uint64_t capacity) : capacity_(capacity) {}
  std::unique_ptr<WritableFile> create(const std::string& path) override {
    return std::make_unique<File>(PassingEnv::create(path), capacity_);
  }

 private:
  class File final : public WritableFile {
   public:
    File(std::unique_ptr<WritableFile> file, uint64_t& capacity)
        : file_(std::move(file)), capacity_(capacity) {}
    void append(std::span<const std::byte> bytes) override {
      DST_CHECK_AS(Unavailable, bytes.size() <= capacity_, "disk full at ", bytes.size(), " bytes");
      capacity_ -= bytes.size();
      file_->append(bytes);
    }
    void commit() override { file_->commit(); }

   private:
    std::unique_ptr<WritableFile> file_;
    uint64_t& capacity_;
  };

  uint64_t capacity_;
};

// Every file holds the given bytes.
class MemoryEnv final : public PassingEnv {
 public:
  std::string content;
  std::unique_ptr<ReadableFile> open(const std::string& path) override {
    return std::make_unique<File>(path, content);
  }

 private:
  class File final : public ReadableFile {
   public:
    File(const std::string& path, const std::string& content) : path_(path), content_(content) {}
    const std::string& path() const override { return path_; }
    std::span<const std::byte> bytes() const override { return std::as_bytes(std::span(content_)); }

   private:
    std::string path_;
    std::string content_;
  };
};

class StoreFaultsTest : public FolderTest {
 protected:
  void write_store(Env& env, const std::string& store) {
    TokenStoreWriter writer(env, store, "abc", R"({"a":1})");
    for (const Document& document : make_documents(20)) writer.append(document);
    writer.commit();
  }
  void expect_corrupt(const std::string& store, const std::vector<std::string>& pieces) {
    expect_error<DataCorruption>([&] { TokenStore(env_, store); }, pieces);
  }
};

TEST_F(StoreFaultsTest, AMissingStoreIsNamed) {
  expect_error<NotFound>([&] { TokenStore(env_, path("absent.h5")); }, {"absent.h5"});
}

TEST_F(StoreFaultsTest, EveryCutIsFound) {
  write_store(env_, path("a.h5"));
  const std::string whole = read_text(env_, path("a.h5"));
  MemoryEnv memory;
  test_support::for_every_cut(whole, [&](std::string_view cut) {
    memory.content = cut;
    expect_error<DataCorruption>([&] { TokenStore(memory, "cut.h5"); },
                                 {"cut.h5", "not a sound token store", "prepare again"});
  });
}

TEST_F(StoreFaultsTest, ForeignFilesAreRefused) {
  expect_corrupt(write("a.h5", "some text that is no HDF5 file"), {"a.h5"});
  expect_corrupt(write("b.h5", std::string(100000, '\0')), {"b.h5"});
  expect_corrupt(write("c.h5", "\x89HDF\r\n\x1a\n"), {"c.h5"});
  expect_corrupt(write("d.h5", "\x89HDF\r\n\x1a\n" + std::string(5000, '\xff')), {"d.h5"});
}

// A store of these bytes opens with sound structure or is refused: it never crashes, and never
// hands out something that is not a document. True if it was refused.
bool is_refused(const std::string& bytes) {
  MemoryEnv memory;
  memory.content = bytes;
  try {
    TokenStore store(memory, "altered.h5");
    for (int64_t i = 0; i < store.size(); ++i) check_document(store.document(i));
  } catch (const DataCorruption&) {
    return true;
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("format version"), std::string::npos) << error.what();
    return true;
  }
  return false;
}

TEST_F(StoreFaultsTest, AlteredBytesNeverDoHarm) {
  write_store(env_, path("a.h5"));
  const std::string whole = read_text(env_, path("a.h5"));
  int64_t refused = 0;
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string altered = whole;
    altered[at] = static_cast<char>(whole[at] ^ (at % 2 ? 0xff : 0x01));
    refused += is_refused(altered);
  }
  EXPECT_GT(refused, 500);  // all of the metadata; token values are not protected
}

TEST_F(StoreFaultsTest, RandomDamageNeverDoesHarm) {
  write_store(env_, path("a.h5"));
  const std::string whole = read_text(env_, path("a.h5"));
  const int trials = test_support::num_trials(300, 100'000);
  int read = 0;
  const auto visit = [&](const std::string& damaged) { read += !is_refused(damaged); };
  EXPECT_EQ(test_support::refused_of_damaged(whole, /*seed=*/13, trials, visit), 0);
  EXPECT_GT(read, 0);
  EXPECT_LT(read, trials);
}

TEST_F(StoreFaultsTest, AFullDiskLeavesTheOldStore) {
  write_store(env_, path("a.h5"));
  const std::string before = read_text(env_, path("a.h5"));
  SmallDisk disk(1000);
  TokenStoreWriter writer(disk, path("a.h5"), "other", "{}");
  for (const Document& document : make_documents(300)) writer.append(document);
  expect_error<Unavailable>([&] { writer.commit(); }, {"disk full"});
  EXPECT_EQ(read_text(env_, path("a.h5")), before);
  EXPECT_EQ(env_.list(folder_), std::vector<std::string>{"a.h5"});
}

TEST_F(StoreFaultsTest, NeedsNothingButTheEnv) {
  SmallDisk disk(1 << 20);
  write_store(disk, path("a.h5"));
  EXPECT_EQ(TokenStore(disk, path("a.h5")).document(3), make_documents(20)[3]);
}

// The same with the kernel saying no: 0 if the error is the right one and nothing is left behind.
int write_beyond_file_size_limit(const std::string& folder) {
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{4096, 4096};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  TokenStoreWriter writer(posix_env(), join_path(folder, "a.h5"), "abc", "{}");
  for (const Document& document : make_documents(300)) writer.append(document);
  try {
    writer.commit();
  } catch (const Unavailable& error) {
    const bool named = std::string(error.what()).find("a.h5") != std::string::npos;
    return named && posix_env().list(folder).empty() ? 0 : 1;
  }
  return 2;
}

TEST_F(StoreFaultsTest, TheKernelsLimitIsOneClearError) {
  EXPECT_EXIT(::_exit(write_beyond_file_size_limit(folder_)), testing::ExitedWithCode(0), "");
}

// A store as another program might write it, with one thing wrong.
struct Recipe {
  hid_t token_type = H5T_STD_U32LE;
  hid_t version_type = H5T_STD_I32LE;
  int version = 1;
  bool variable_string = false;
  bool filtered = false;
  bool contiguous = false;
  std::vector<uint32_t> tokens = {1, 2, 3, 4, 5};
  std::vector<uint64_t> offsets = {0, 2, 5};
  std::vector<uint64_t> spans = {0, 0, 2, 1, 1, 3};
  hsize_t span_columns = 3;
  hsize_t claimed_tokens = 0;  // instead of the real number, with no chunk written
  hsize_t user_block = 0;
  std::string left_out;
};

class ForeignStoreTest : public StoreFaultsTest {
 protected:
  void dataset(hid_t file, const Recipe& recipe, const char* name, hid_t type, hid_t memory_type,
               std::vector<hsize_t> shape, const void* values) {
    if (recipe.left_out == name) return;
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    auto chunk = shape;
    chunk[0] = 2;
    if (!recipe.contiguous) H5Pset_chunk(creation, static_cast<int>(shape.size()), chunk.data());
    if (recipe.filtered) H5Pset_fletcher32(creation);
    std::vector<hsize_t> most = shape;
    if (!recipe.contiguous) most[0] = H5S_UNLIMITED;
    hid_t space = H5Screate_simple(static_cast<int>(shape.size()), shape.data(), most.data());
    hid_t id = H5Dcreate2(file, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    if (values) H5Dwrite(id, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(id), H5Sclose(space), H5Pclose(creation);
  }
  void attribute(hid_t file, const Recipe& recipe, const char* name, hid_t type, hid_t memory_type,
                 const void* value) {
    if (recipe.left_out == name) return;
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t id = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(id, memory_type, value);
    H5Aclose(id), H5Sclose(space);
  }
  std::string build(const Recipe& recipe) {
    const std::string store = path("foreign.h5");
    hid_t creation = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_userblock(creation, recipe.user_block);
    hid_t file = H5Fcreate(store.c_str(), H5F_ACC_TRUNC, creation, H5P_DEFAULT);
    H5Pclose(creation);
    attribute(file, recipe, "format_version", recipe.version_type, H5T_NATIVE_INT, &recipe.version);
    hid_t string_type = H5Tcopy(H5T_C_S1);
    const char* text = "{}";
    H5Tset_size(string_type, recipe.variable_string ? H5T_VARIABLE : 2);
    const void* value = recipe.variable_string ? static_cast<const void*>(&text) : text;
    attribute(file, recipe, "tokenizer_sha256", string_type, string_type, value);
    attribute(file, recipe, "provenance", string_type, string_type, value);
    H5Tclose(string_type);
    const hsize_t num_tokens = recipe.claimed_tokens ? recipe.claimed_tokens : recipe.tokens.size();
    dataset(file, recipe, "tokens", recipe.token_type, H5T_NATIVE_UINT32, {num_tokens},
            recipe.claimed_tokens ? nullptr : recipe.tokens.data());
    dataset(file, recipe, "offsets", H5T_STD_U64LE, H5T_NATIVE_UINT64, {recipe.offsets.size()},
            recipe.offsets.data());
    dataset(file, recipe, "loss_spans", H5T_STD_U64LE, H5T_NATIVE_UINT64,
            {recipe.spans.size() / recipe.span_columns, recipe.span_columns}, recipe.spans.data());
    H5Fclose(file);
    return store;
  }
  void expect_refused(const Recipe& recipe, const std::string& reason) {
    expect_corrupt(build(recipe), {"foreign.h5", reason});
  }
};

TEST_F(ForeignStoreTest, ASoundOneIsRead) {
  TokenStore store(env_, build({}));
  ASSERT_EQ(store.size(), 2);
  EXPECT_EQ(store.document(0), (Document{{1, 2}, {{0, 2}}}));
  EXPECT_EQ(store.document(1), (Document{{3, 4, 5}, {{1, 3}}}));
}

TEST_F(ForeignStoreTest, WrongAttributes) {
  expect_refused({.left_out = "format_version"}, "no attribute format_version");
  expect_refused({.left_out = "tokenizer_sha256"}, "no attribute tokenizer_sha256");
  expect_refused({.left_out = "provenance"}, "no attribute provenance");
  expect_refused({.version_type = H5T_IEEE_F32LE}, "format_version is no integer");
  expect_refused({.version = 0}, "format_version is 0");
  expect_refused({.variable_string = true}, "tokenizer_sha256 is no fixed-length string");
  expect_error<InvalidArgument>([&] { TokenStore(env_, build({.version = 2})); },
                                {"foreign.h5", "format version 2", "up to 1"});
}

TEST_F(ForeignStoreTest, WrongDatasets) {
  for (const char* name : {"tokens", "offsets", "loss_spans"})
    expect_refused({.left_out = name}, concat("/", name));
  expect_refused({.token_type = H5T_STD_I32LE}, "/tokens has the wrong element type");
  expect_refused({.token_type = H5T_STD_U32BE}, "/tokens has the wrong element type");
  expect_refused({.filtered = true}, "unfiltered chunks");
  expect_refused({.contiguous = true}, "unfiltered chunks");
  expect_refused({.user_block = 512}, "user block of 512");
  expect_refused({.span_columns = 2}, "2 columns, wanted 3");
}

TEST_F(ForeignStoreTest, WrongSizes) {
  expect_refused({.claimed_tokens = hsize_t{1} << 40}, "claims 1099511627776 rows");
  expect_refused({.claimed_tokens = hsize_t{1} << 62}, "rows in a file of");
  expect_refused({.claimed_tokens = 6}, "not inside the file");
  expect_refused({.offsets = {0, 2, 6}}, "/offsets");
  expect_refused({.offsets = {0, 2, 4}}, "/offsets");
  expect_refused({.offsets = {1, 2, 5}}, "/offsets");
  expect_refused({.offsets = {5}}, "/offsets");
  expect_refused({.offsets = {0, 3, 2, 5}}, "does not rise at document 1");
  expect_refused({.offsets = {0, 2, 2, 5}}, "does not rise at document 1");
}

TEST_F(ForeignStoreTest, WrongSpans) {
  expect_refused({.spans = {2, 0, 1}}, "document 2");
  expect_refused({.spans = {UINT64_MAX, 0, 1}}, "/loss_spans row 0");
  expect_refused({.spans = {1, 0, 1, 0, 0, 1}}, "row 1 names document 0");
  expect_refused({.spans = {0, 0, 3}}, "[0, 3) in a document of 2");
  expect_refused({.spans = {0, 1, 1}}, "[1, 1)");
  expect_refused({.spans = {1, 0, 2, 1, 1, 3}}, "ends at 2");
  expect_refused({.spans = {0, UINT64_MAX, 1}}, "/loss_spans row 0");
}

}  // namespace
}  // namespace deepseek_train::data
