// Tokenizing a file of JSON lines on one thread, beside Hugging Face's tokenizers (Rust) run on the
// same lines by hf_tokenizer.py in the same bench: the ids must be equal before anything is timed.
//   bench_tokenizer TOKENIZER_FOLDER FILE.jsonl [--python .venv/bin/python]
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"
#include "deepseek_train/text/tokenizer.h"

namespace {

using namespace deepseek_train;
using Json = nlohmann::ordered_json;

constexpr int kRepeats = 7;

struct Arguments {
  std::string folder, file, python = ".venv/bin/python";
};

std::vector<std::string> read_lines(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  DST_CHECK(file.good(), "cannot read ", path);
  for (std::string line; std::getline(file, line);)
    lines.push_back(Json::parse(line).at("text").get<std::string>());
  DST_CHECK(!lines.empty(), path, " has no lines");
  return lines;
}

// Of the ids of all lines, as hf_tokenizer.py computes it.
uint64_t checksum(uint64_t sum, const std::vector<int32_t>& ids) {
  for (int32_t id : ids) sum = (sum * 1'000'003 + static_cast<uint64_t>(id) + 1) % 2'147'483'647;
  return (sum * 1'000'003) % 2'147'483'647;
}

struct Measured {
  double seconds = 0;  // median
  uint64_t checksum = 0;
};

Measured measure_ours(const text::Tokenizer& tokenizer, const std::vector<std::string>& lines) {
  Measured measured;
  for (const auto& line : lines)
    measured.checksum = checksum(measured.checksum, tokenizer.encode(line));
  std::vector<double> seconds;
  for (int i = 0; i < kRepeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    size_t num_ids = 0;
    for (const auto& line : lines) num_ids += tokenizer.encode(line).size();
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    DST_CHECK(num_ids > 0, "no ids");
  }
  std::nth_element(seconds.begin(), seconds.begin() + kRepeats / 2, seconds.end());
  measured.seconds = seconds[kRepeats / 2];
  return measured;
}

Measured measure_theirs(const Arguments& arguments) {
  const auto command = concat(arguments.python, " bench/text/hf_tokenizer.py '", arguments.folder,
                              "/tokenizer.json' '", arguments.file, "'");
  FILE* pipe = ::popen(command.c_str(), "r");
  DST_CHECK(pipe != nullptr, "cannot start ", command);
  char buffer[512] = {};
  const bool read = std::fgets(buffer, sizeof(buffer), pipe) != nullptr;
  DST_CHECK(::pclose(pipe) == 0 && read, command, " failed; run it by itself to see why");
  const auto json = Json::parse(buffer);
  return {json.at("seconds"), json.at("checksum")};
}

void run(const Arguments& arguments) {
  const auto tokenizer = text::Tokenizer::from_folder(posix_env(), arguments.folder);
  const auto lines = read_lines(arguments.file);
  size_t bytes = 0;
  for (const auto& line : lines) bytes += line.size();
  const auto ours = measure_ours(tokenizer, lines), theirs = measure_theirs(arguments);
  DST_CHECK(ours.checksum == theirs.checksum, "the ids are not those of Hugging Face's tokenizers");
  auto rate = [&](double seconds) { return static_cast<double>(bytes) / seconds / 1e6; };
  std::printf("%zu lines, %.1f MB: %.1f MB/s, Hugging Face %.1f MB/s on one thread\n", lines.size(),
              static_cast<double>(bytes) / 1e6, rate(ours.seconds), rate(theirs.seconds));
  const Json result = {{"name", "tokenizer_encode"},
                       {"value", rate(ours.seconds)},
                       {"unit", "MB/s"},
                       {"peer", "tokenizers encode_batch_fast, one thread"},
                       {"peer_value", rate(theirs.seconds)},
                       {"ratio", theirs.seconds / ours.seconds},
                       {"config",
                        {{"tokenizer", arguments.folder},
                         {"vocabulary", tokenizer.vocab_size()},
                         {"lines", lines.size()},
                         {"bytes", bytes}}}};
  std::printf("%s\n", result.dump().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Tokenizer speed on one thread beside Hugging Face's");
  app.add_option("folder", arguments.folder, "a folder with tokenizer.json")->required();
  app.add_option("file", arguments.file, "JSON lines with the key text")->required();
  app.add_option("--python", arguments.python, "Python with the package tokenizers")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    run(arguments);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_tokenizer: %s\n", error.what());
    return 1;
  }
}
