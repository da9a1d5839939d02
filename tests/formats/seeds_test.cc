// The seeds of the fuzz targets, among them the public proofs-of-concept against other readers: the
// right ones open, all others are refused.
#include <gtest/gtest.h>

#include "deepseek_train/core/error.h"
#include "deepseek_train/formats/gguf.h"
#include "src/formats/safetensors_index.h"
#include "tests/formats/temporary_folder.h"

namespace deepseek_train::formats {
namespace {

// Calls open(path) for every seed of the folder.
template <typename Open>
void expect_verdicts(const std::string& folder, size_t least_seeds, Open open) {
  const auto names = posix_env().list(folder);
  EXPECT_GE(names.size(), least_seeds);
  for (const auto& name : names) {
    const auto path = join_path(folder, name);
    if (name.starts_with("valid_")) {
      EXPECT_NO_THROW(open(path)) << name;
    } else {
      const auto text = error_of<DataCorruption>([&] { open(path); });
      EXPECT_TRUE(contains(text, path)) << name << ": " << text;
      EXPECT_LT(text.size(), 1000u) << name;
    }
  }
}

TEST(Seeds, Safetensors) {
  expect_verdicts("tests/fuzz/seeds/safetensors", 25, [](const std::string& path) {
    if (path.ends_with("_index")) {
      parse_safetensors_index(read_text(posix_env(), path), path);
    } else {
      SafetensorsFile(posix_env(), path);
    }
  });
}

TEST(Seeds, Gguf) {
  expect_verdicts("tests/fuzz/seeds/gguf", 25,
                  [](const std::string& path) { GgufFile(posix_env(), path); });
}

}  // namespace
}  // namespace deepseek_train::formats
