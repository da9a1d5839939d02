#include "deepseek_train/formats/tensor_copy.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <numeric>
#include <random>

#include "deepseek_train/core/error.h"
#include "tests/formats/temporary_folder.h"

namespace deepseek_train::formats {
namespace {

std::vector<std::byte> random_bytes(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(count);
  for (auto& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

// Element by element, over the index of each dimension.
std::vector<std::byte> naive_part(const TensorView& tensor, const TensorSlice& slice) {
  const size_t element = size_bytes(tensor.dtype);
  const auto shape = shape_of(tensor, slice);
  const auto count = std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
  std::vector<std::byte> part;
  for (int64_t i = 0; i < count; ++i) {
    int64_t left = i, place = 0, stride = 1;
    for (size_t d = shape.size(); d-- > 0;) {
      const int64_t at = left % shape[d] + (d == size_t(slice.dimension) ? slice.begin : 0);
      place += at * stride;
      stride *= tensor.shape[d];
      left /= shape[d];
    }
    const auto bytes = tensor.bytes.subspan(static_cast<size_t>(place) * element, element);
    part.insert(part.end(), bytes.begin(), bytes.end());
  }
  return part;
}

class TensorCopyTest : public testing::Test {
 protected:
  // A file with one tensor of each kind worth copying.
  TensorCopyTest() {
    const std::vector<TensorInfo> tensors = {{"matrix", DType::kBFloat16, {37, 53}},
                                             {"cube", DType::kFloat32, {3, 5, 7}},
                                             {"wide", DType::kUInt8, {3, 3'000'000}},
                                             {"scalar", DType::kInt64, {}},
                                             {"empty", DType::kFloat32, {0, 4}}};
    SafetensorsWriter writer(posix_env(), folder_.file("a"), tensors);
    for (size_t i = 0; i < tensors.size(); ++i)
      writer.write_next(random_bytes(size_bytes(tensors[i]), static_cast<uint32_t>(i)));
    writer.commit();
    file_ = std::make_unique<SafetensorsFile>(posix_env(), folder_.file("a"));
  }

  TemporaryFolder folder_;
  std::unique_ptr<SafetensorsFile> file_;
};

TEST_F(TensorCopyTest, WholeTensorsArriveWithAnyNumberOfThreads) {
  for (const int num_threads : {1, 2, 5}) {
    std::vector<std::vector<std::byte>> copies;
    std::vector<TensorCopy> work;
    for (const auto& tensor : file_->tensors()) {
      copies.emplace_back(tensor.bytes.size());
      work.push_back({&tensor, std::nullopt, copies.back()});
    }
    copy_tensors(work, num_threads);
    for (size_t i = 0; i < copies.size(); ++i)
      EXPECT_TRUE(std::ranges::equal(copies[i], file_->tensors()[i].bytes))
          << file_->tensors()[i].name;
  }
}

TEST_F(TensorCopyTest, EverySliceOfASmallTensor) {
  for (const std::string name : {"matrix", "cube"}) {
    const auto& tensor = file_->get(name);
    for (int64_t d = 0; d < static_cast<int64_t>(tensor.shape.size()); ++d) {
      const int64_t size = tensor.shape[static_cast<size_t>(d)];
      for (int64_t begin = 0; begin <= size; ++begin) {
        for (int64_t end = begin; end <= size; end += 1 + size / 8) {
          const TensorSlice slice{d, begin, end};
          const auto wanted = naive_part(tensor, slice);
          std::vector<std::byte> found(wanted.size());
          const TensorCopy copy{&tensor, slice, found};
          copy_tensors({&copy, 1}, 2);
          ASSERT_EQ(found, wanted) << name << " dimension " << d << " [" << begin << ", " << end;
        }
      }
    }
  }
}

// Runs longer than a piece, with gaps between them that are worth skipping.
TEST_F(TensorCopyTest, WideColumns) {
  const auto& tensor = file_->get("wide");
  for (const auto& [begin, end] : {std::pair{100'001, 2'900'003}, {2'000'000, 2'000'001}}) {
    const TensorSlice slice{1, begin, end};
    std::vector<std::byte> found(static_cast<size_t>(3 * (end - begin)));
    const TensorCopy copy{&tensor, slice, found};
    copy_tensors({&copy, 1}, 3);
    for (int64_t row = 0; row < 3; ++row)
      ASSERT_TRUE(std::equal(found.begin() + row * (end - begin),
                             found.begin() + (row + 1) * (end - begin),
                             tensor.bytes.begin() + row * 3'000'000 + begin));
  }
}

TEST_F(TensorCopyTest, DestinationsAtAnyAddress) {
  const auto& tensor = file_->get("wide");
  std::vector<std::byte> memory(tensor.bytes.size() + 64);
  for (const size_t offset : {1, 17, 63}) {
    const TensorCopy copy{&tensor, std::nullopt,
                          std::span(memory).subspan(offset, tensor.bytes.size())};
    copy_tensors({&copy, 1}, 2);
    EXPECT_TRUE(std::ranges::equal(copy.destination, tensor.bytes));
    EXPECT_EQ(memory[offset - 1], std::byte{0});
    std::ranges::fill(memory, std::byte{0});
  }
}

TEST_F(TensorCopyTest, MistakesAreRefusedByName) {
  std::vector<std::byte> memory(37 * 53 * 2);
  const auto error = [&](std::optional<TensorSlice> slice, size_t size) {
    const TensorCopy copy{&file_->get("matrix"), slice, std::span(memory).first(size)};
    return error_of<InvalidArgument>([&] { copy_tensors({&copy, 1}, 2); });
  };
  EXPECT_TRUE(contains(error(std::nullopt, 3), "\"matrix\" (bytes "));
  EXPECT_TRUE(contains(error(std::nullopt, 3), "takes 3922 bytes, the destination has 3"));
  EXPECT_TRUE(contains(error(TensorSlice{2, 0, 1}, 2), "no dimension 2"));
  EXPECT_TRUE(contains(error(TensorSlice{-1, 0, 1}, 2), "no dimension -1"));
  for (const auto& [begin, end] : {std::pair{-1, 2}, {3, 2}, {0, 38}})
    EXPECT_TRUE(contains(error(TensorSlice{0, begin, end}, 2), "has no part ["));
}

TEST_F(TensorCopyTest, AFileCutWhileItIsOpenIsAnErrorThatNamesTensorAndBytes) {
  const auto& tensor = file_->get("wide");
  std::vector<std::byte> memory(tensor.bytes.size());
  ASSERT_EQ(::truncate(folder_.file("a").c_str(), 5'000'000), 0);
  const TensorCopy copy{&tensor, std::nullopt, memory};
  const auto text = error_of<Unavailable>([&] { copy_tensors({&copy, 1}, 2); });
  EXPECT_TRUE(contains(text, "\"wide\"") && contains(text, "bytes ") &&
              contains(text, folder_.file("a")))
      << text;
}

}  // namespace
}  // namespace deepseek_train::formats
