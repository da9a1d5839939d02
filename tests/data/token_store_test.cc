#include "deepseek_train/data/token_store.h"

#include <hdf5.h>

#include <thread>

#include "tests/data/support.h"

namespace deepseek_train::data {
namespace {

class TokenStoreTest : public FolderTest {
 protected:
  std::string write_store(const std::string& name, const std::vector<Document>& documents) {
    TokenStoreWriter writer(env_, path(name), "abc123", R"({"from": "a test"})");
    for (const Document& document : documents) writer.append(document);
    writer.commit();
    return path(name);
  }
};

TEST_F(TokenStoreTest, GivesBackWhatWasWritten) {
  const auto documents = make_documents(200);
  TokenStore store(env_, write_store("a.h5", documents));
  ASSERT_EQ(store.size(), 200);
  int64_t num_tokens = 0, loss_tokens = 0;
  for (int64_t i = 0; i < store.size(); ++i) {
    const Document& document = documents[static_cast<size_t>(i)];
    EXPECT_EQ(store.document(i), document);
    EXPECT_EQ(store.length(i), static_cast<int64_t>(document.tokens.size()));
    num_tokens += store.length(i);
    loss_tokens += num_loss_tokens(document);
  }
  EXPECT_EQ(store.num_tokens(), num_tokens);
  EXPECT_EQ(store.num_loss_tokens(), loss_tokens);
  EXPECT_EQ(store.tokenizer_sha256(), "abc123");
  EXPECT_EQ(store.provenance(), R"({"from": "a test"})");
  EXPECT_EQ(store.path(), path("a.h5"));
}

TEST_F(TokenStoreTest, DocumentsMaySpanChunks) {
  std::vector<Document> documents;
  for (uint32_t i = 0; i < 5; ++i) {
    Document document;
    for (uint32_t t = 0; t < 70001; ++t) document.tokens.push_back(i * 100000 + t);
    documents.push_back(document);
  }
  documents[2].loss_spans = {{0, 1}, {5, 69999}};
  documents[4].tokens.resize(2 * 65536 - 4 * 70001 % 65536);  // ends with a chunk
  TokenStore store(env_, write_store("a.h5", documents));
  for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(store.document(i), documents[static_cast<size_t>(i)]);
}

TEST_F(TokenStoreTest, DocumentsMayHaveNoSpanAtAll) {
  const std::vector<Document> documents = {{{1, 2, UINT32_MAX}, {}}};
  TokenStore store(env_, write_store("a.h5", documents));
  EXPECT_EQ(store.document(0), documents[0]);
  EXPECT_EQ(store.num_loss_tokens(), 0);
}

TEST_F(TokenStoreTest, TheSameDocumentsGiveTheSameBytes) {
  const auto documents = make_documents(50);
  const std::string first = read_text(env_, write_store("a.h5", documents));
  std::this_thread::sleep_for(
      std::chrono::milliseconds(1100));  // HDF5's time stamps would be in seconds
  EXPECT_EQ(read_text(env_, write_store("b.h5", documents)), first);
}

TEST_F(TokenStoreTest, IsReadByManyThreads) {
  const auto documents = make_documents(500);
  TokenStore store(env_, write_store("a.h5", documents));
  std::vector<std::thread> threads;
  std::vector<int64_t> wrong(8);
  for (size_t thread = 0; thread < wrong.size(); ++thread)
    threads.emplace_back([&, thread] {
      for (int64_t k = 0; k < 5000; ++k) {
        const int64_t i = (k * 7 + static_cast<int64_t>(thread) * 61) % 500;
        wrong[thread] += store.document(i) != documents[static_cast<size_t>(i)];
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int64_t>(8));
}

TEST_F(TokenStoreTest, IsOpenedByManyThreads) {
  const auto documents = make_documents(20);
  const std::string a = write_store("a.h5", documents);
  std::vector<std::thread> threads;
  std::atomic<int64_t> right = 0;
  for (int thread = 0; thread < 8; ++thread)
    threads.emplace_back([&, thread] {
      const std::string own = write_store(concat("own", thread, ".h5"), documents);
      for (int k = 0; k < 20; ++k)
        right += TokenStore(env_, k % 2 ? a : own).document(k) == documents[static_cast<size_t>(k)];
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 160);
}

TEST_F(TokenStoreTest, OutlivesItsFilesNameAndMoves) {
  const auto documents = make_documents(10);
  TokenStore store(env_, write_store("a.h5", documents));
  env_.remove_all(path("a.h5"));
  TokenStore moved = std::move(store);
  EXPECT_EQ(moved.document(9), documents[9]);
}

// An attribute of the old HDF5 format ends at 64 KiB; a provenance of many files does not.
TEST_F(TokenStoreTest, ProvenanceMayBeLong) {
  const std::string provenance = "\"" + std::string(1000000, 'x') + "\"";
  TokenStoreWriter writer(env_, path("a.h5"), "abc", provenance);
  writer.append({{1}, {}});
  writer.commit();
  EXPECT_EQ(TokenStore(env_, path("a.h5")).provenance(), provenance);
}

TEST_F(TokenStoreTest, AnotherTokenizerIsRefused) {
  TokenStore store(env_, write_store("a.h5", make_documents(1)));
  EXPECT_NO_THROW(store.check_tokenizer("abc123"));
  expect_error<InvalidArgument>([&] { store.check_tokenizer("def456"); },
                                {"a.h5", "abc123", "def456", "prepare again"});
}

TEST_F(TokenStoreTest, WriterRefusesWhatIsNoStore) {
  expect_error<InvalidArgument>([&] { TokenStoreWriter(env_, path("a"), "", "{}"); }, {"SHA-256"});
  expect_error<InvalidArgument>([&] { TokenStoreWriter(env_, path("a"), "abc", "{"); },
                                {"not JSON"});
  TokenStoreWriter writer(env_, path("a"), "abc", "{}");
  expect_error<InvalidArgument>([&] { writer.commit(); }, {"needs a document"});
  expect_error<InvalidArgument>([&] { writer.append({}); }, {"no token"});
  expect_error<InvalidArgument>([&] { writer.append({{1}, {{0, 2}}}); }, {"loss span"});
  writer.append({{1}, {{0, 1}}});
  writer.commit();
  expect_error<InvalidArgument>([&] { writer.commit(); }, {"before"});
  EXPECT_EQ(TokenStore(env_, path("a")).size(), 1);
}

TEST_F(TokenStoreTest, WithoutCommitThereIsNoFile) {
  { TokenStoreWriter(env_, path("a.h5"), "abc", "{}").append({{1}, {}}); }
  EXPECT_TRUE(env_.list(folder_).empty());
}

// The layout as another program sees it.
TEST_F(TokenStoreTest, HasTheDocumentedLayout) {
  const std::string store = write_store("a.h5", {{{7, 8, 9}, {{1, 3}}}, {{5}, {}}});
  hid_t file = H5Fopen(store.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  ASSERT_GE(file, 0);
  auto read = [&](const char* name, hid_t type, std::vector<hsize_t> shape, auto* values) {
    hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
    hid_t own_type = H5Dget_type(dataset), space = H5Dget_space(dataset),
          creation = H5Dget_create_plist(dataset);
    EXPECT_GT(H5Tequal(own_type, type), 0) << name;
    std::vector<hsize_t> found(static_cast<size_t>(H5Sget_simple_extent_ndims(space)));
    H5Sget_simple_extent_dims(space, found.data(), nullptr);
    EXPECT_EQ(found, shape) << name;
    EXPECT_EQ(H5Pget_layout(creation), H5D_CHUNKED) << name;
    EXPECT_GE(H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), 0) << name;
    H5Pclose(creation), H5Sclose(space), H5Tclose(own_type), H5Dclose(dataset);
  };
  std::vector<uint32_t> tokens(4);
  std::vector<uint64_t> offsets(3), spans(3);
  read("/tokens", H5T_STD_U32LE, {4}, tokens.data());
  read("/offsets", H5T_STD_U64LE, {3}, offsets.data());
  read("/loss_spans", H5T_STD_U64LE, {1, 3}, spans.data());
  EXPECT_EQ(tokens, (std::vector<uint32_t>{7, 8, 9, 5}));
  EXPECT_EQ(offsets, (std::vector<uint64_t>{0, 3, 4}));
  EXPECT_EQ(spans, (std::vector<uint64_t>{0, 1, 3}));
  int version = 0;
  hid_t attribute = H5Aopen(file, "format_version", H5P_DEFAULT);
  EXPECT_GE(H5Aread(attribute, H5T_NATIVE_INT, &version), 0);
  EXPECT_EQ(version, 1);
  H5Aclose(attribute);
  attribute = H5Aopen(file, "tokenizer_sha256", H5P_DEFAULT);
  hid_t type = H5Aget_type(attribute);
  EXPECT_EQ(H5Tget_class(type), H5T_STRING);
  EXPECT_EQ(H5Tis_variable_str(type), 0);
  EXPECT_EQ(H5Tget_size(type), 6u);
  H5Tclose(type), H5Aclose(attribute);
  EXPECT_GT(H5Aexists(file, "provenance"), 0);
  H5Fclose(file);
}

}  // namespace
}  // namespace deepseek_train::data
