// The reduction kernels alone, against naive references.
#include "collectives/algorithms/tree_reduce.h"

#include <gtest/gtest.h>

#include <bit>

#include "collectives/algorithms/elements.h"
#include "collectives/algorithms/partition.h"
#include "tests/collectives/values.h"

namespace deepseek_train::collectives {
namespace {

using testing::Reduction;
using testing::same_bits;

template <typename T>
void check_tree(int num_sources, size_t count, ReduceOp op) {
  const Reduction<T> reduction(num_sources, count, op);
  auto buffers = reduction.inputs;
  std::vector<T> extra(count);
  std::vector<const std::byte*> sources;
  std::vector<std::byte*> destinations = {reinterpret_cast<std::byte*>(extra.data())};
  for (auto& buffer : buffers) {
    sources.push_back(reinterpret_cast<const std::byte*>(buffer.data()));
    destinations.push_back(
        reinterpret_cast<std::byte*>(buffer.data()));  // in place, as in an arena
  }
  tree_reduce(dtype_of<T>(), op, sources, destinations, count);
  EXPECT_TRUE(same_bits(extra, reduction.expected))
      << num_sources << " x " << count << " " << name_of(dtype_of<T>());
  for (const auto& buffer : buffers) EXPECT_TRUE(same_bits(buffer, reduction.expected));
}

TEST(TreeReduceTest, EqualsTheNaiveTreeForAnyNumberOfSources) {
  for (int num_sources = 1; num_sources <= 33; ++num_sources) {
    for (size_t count : {0, 1, 15, 511, 512, 513, 2000})
      check_tree<float>(num_sources, count, ReduceOp::kSum);
    check_tree<BFloat16>(num_sources, 515, ReduceOp::kAvg);
    check_tree<Float16>(num_sources, 515, ReduceOp::kSum);
    check_tree<int64_t>(num_sources, 515, ReduceOp::kMin);
  }
}

TEST(TreeReduceTest, AlignedBlocksOfRanksCombineToTheSameBits) {
  const Reduction<float> whole(8, 1000, ReduceOp::kSum);
  std::vector<std::vector<float>> halves(2, std::vector<float>(1000));
  for (int half = 0; half < 2; ++half) {
    const std::vector<std::vector<float>> part(whole.inputs.begin() + 4 * half,
                                               whole.inputs.begin() + 4 * half + 4);
    halves[half] = testing::reduced(part, ReduceOp::kSum);
  }
  const std::byte* sources[] = {reinterpret_cast<const std::byte*>(halves[0].data()),
                                reinterpret_cast<const std::byte*>(halves[1].data())};
  std::vector<float> result(1000);
  std::byte* destinations[] = {reinterpret_cast<std::byte*>(result.data())};
  tree_reduce(DType::kFloat32, ReduceOp::kSum, sources, destinations, 1000);
  EXPECT_TRUE(same_bits(result, whole.expected));
}

TEST(TreeReduceTest, BuffersNeedNoMoreThanTheAlignmentOfAnElement) {
  for (size_t offset : {1, 3, 7}) {
    std::vector<float> values(1000 + offset, 1.5f), target(1000 + offset, 1.5f);
    accumulate(DType::kFloat32, ReduceOp::kSum,
               reinterpret_cast<const std::byte*>(values.data() + offset),
               reinterpret_cast<std::byte*>(target.data() + offset), 1000);
    for (size_t i = 0; i < target.size(); ++i) ASSERT_EQ(target[i], i < offset ? 1.5f : 3.0f);
  }
}

// Every one of the 65,536 values; the rounding on values around every boundary.
TEST(ElementsTest, HalfConversionsEqualCores) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float expected = to_float(Float16{half});
    ASSERT_EQ(std::bit_cast<uint32_t>(Float16Element::load(half)),
              std::bit_cast<uint32_t>(expected))
        << bits;
    const uint32_t middle = std::bit_cast<uint32_t>(expected);
    for (uint32_t near : {middle - 0x1001, middle - 0x1000, middle - 0xfff, middle, middle + 0xfff,
                          middle + 0x1000, middle + 0x1001}) {
      const float value = std::bit_cast<float>(near);
      ASSERT_EQ(Float16Element::store(value), to_float16(value).bits) << near;
    }
  }
}

TEST(ElementsTest, BFloat16ConversionsEqualCores) {
  for (uint32_t high = 0; high < 0x10000; ++high) {
    for (uint32_t low : {0x0u, 0x1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const float value = std::bit_cast<float>(high << 16 | low);
      ASSERT_EQ(BFloat16Element::store(value), to_bfloat16(value).bits) << high << " " << low;
    }
  }
}

TEST(PartitionTest, SlicesCoverEverythingOnceInWholeCacheLines) {
  for (size_t count : {0, 1, 15, 16, 17, 1000, 4096}) {
    for (int num_ranks = 1; num_ranks <= 9; ++num_ranks) {
      size_t next = 0;
      for (int rank = 0; rank < num_ranks; ++rank) {
        const Slice slice = slice_of(count, 4, rank, num_ranks);
        EXPECT_EQ(slice.begin, next);
        EXPECT_TRUE(slice.begin % 16 == 0 || slice.begin == count);
        next = slice.end;
      }
      EXPECT_EQ(next, count);
    }
  }
}

}  // namespace
}  // namespace deepseek_train::collectives
