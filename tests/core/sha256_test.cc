#include "deepseek_train/core/sha256.h"

#include <gtest/gtest.h>

#include <vector>

#include "src/core/sha256_blocks.h"

namespace deepseek_train {
namespace {

// The three vectors of FIPS 180-4's examples, the last one fed in odd pieces.
TEST(Sha256Test, PublishedVectors) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Sha256 hash;
  std::string piece(997, 'a');
  for (size_t left = 1000000; left > 0;) {
    size_t taken = std::min(left, piece.size());
    hash.update(std::string_view(piece).substr(0, taken));
    left -= taken;
  }
  EXPECT_EQ(hash.finish_hex(), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256Test, PaddingAtEveryLength) {
  // Lengths around the block's end take different padding paths; pieces must not matter.
  for (size_t length = 50; length < 130; ++length) {
    std::string text(length, 'x');
    Sha256 hash;
    for (char letter : text) hash.update(std::string_view(&letter, 1));
    EXPECT_EQ(hash.finish_hex(), sha256_hex(text)) << length;
  }
}

// On a CPU without SHA instructions there is only one implementation, the one tested above.
TEST(Sha256Test, TheInstructionsGiveThePortableState) {
  const auto instructions = find_sha256_instructions();
  if (!instructions) return;
  std::vector<std::byte> bytes(64 * 40 + 1);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * i >> 3);
  for (const size_t offset : {0, 1}) {
    for (size_t num_blocks = 0; num_blocks <= 40; ++num_blocks) {
      std::array<uint32_t, 8> found = {1, 2, 3, 0x80000000, 5, 6, 0xffffffff, 8}, wanted = found;
      instructions(found, bytes.data() + offset, num_blocks);
      sha256_hash_blocks_portable(wanted, bytes.data() + offset, num_blocks);
      ASSERT_EQ(found, wanted) << num_blocks << " blocks from byte " << offset;
    }
  }
}

}  // namespace
}  // namespace deepseek_train
