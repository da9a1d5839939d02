// Loading and saving a checkpoint of safetensors. Load: from the page cache into memory that is
// there already, against plain reads of the same files with the same threads and against the
// safetensors package. Save: tensor by tensor, against plain writes of the same bytes; and by how
// much the process's peak of memory grows.
//   bench_load [--gigabytes 2.5] [--threads 2] [--repeats 7] [--folder /tmp] [--python PROGRAM]
// Makes the checkpoint in a new folder inside --folder and removes it.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstring>
#include <random>

#include "bench/formats/peer_process.h"
#include "bench/support/timing.h"
#include "deepseek_train/core/env.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/core/parallel.h"
#include "deepseek_train/core/unique_fd.h"
#include "deepseek_train/formats/safetensors_folder.h"
#include "deepseek_train/formats/tensor_copy.h"

namespace deepseek_train::bench {
namespace {

using formats::TensorInfo;

struct Options {
  double gigabytes = 2.5;
  int threads = 2;
  int repeats = 7;
  std::string folder = "/tmp";
  std::string python = ".venv/bin/python";
};

constexpr uint64_t kMaxShardBytes = 1'000'000'000;

// The layers of a decoder of 2,048 channels, as many as it takes, and its embedding.
std::vector<TensorInfo> tensors_of(double gigabytes) {
  std::vector<TensorInfo> tensors = {
      {"model.embed_tokens.weight", DType::kBFloat16, {49152, 2048}}};
  double bytes = 2.0 * 49152 * 2048;
  for (int layer = 0; bytes < gigabytes * 1e9; ++layer) {
    const auto add = [&](const char* name, std::vector<int64_t> shape) {
      tensors.push_back({concat("model.layers.", layer, ".", name, ".weight"), DType::kBFloat16,
                         std::move(shape)});
      bytes += static_cast<double>(formats::size_bytes(tensors.back()));
    };
    add("input_layernorm", {2048});
    for (const char* name :
         {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"})
      add(name, {2048, 2048});
    for (const char* name : {"mlp.gate_proj", "mlp.up_proj"}) add(name, {5632, 2048});
    add("mlp.down_proj", {2048, 5632});
    add("post_attention_layernorm", {2048});
  }
  return tensors;
}

// Removes the folder it made.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::string& parent)
      : path_(join_path(parent, concat("dst_bench_load-", ::getpid()))) {
    posix_env().make_folders(path_);
  }
  ~ScratchFolder() {
    try {
      posix_env().remove_all(path_);
    } catch (const Error& error) {
      std::fprintf(stderr, "%s\n", error.what());
    }
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  std::string file(const std::string& name) const { return join_path(path_, name); }

 private:
  std::string path_;
};

double seconds_of(const std::function<void()>& run) { return measure(run) * 1e-6; }

uint64_t peak_memory_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

struct Save {
  double ours, plain;  // GB/s, synced
  uint64_t peak_growth;
};

Save bench_save(const ScratchFolder& scratch, const std::vector<TensorInfo>& tensors,
                const std::vector<std::byte>& values) {
  uint64_t num_bytes = 0;
  const auto source = [&](const TensorInfo& tensor) {
    num_bytes += formats::size_bytes(tensor);
    return std::span(values).first(formats::size_bytes(tensor));
  };
  const auto plan = formats::plan_shards(tensors, kMaxShardBytes);
  const uint64_t before = peak_memory_bytes();
  const double ours = seconds_of(
      [&] { formats::write_sharded(posix_env(), scratch.file("checkpoint"), plan, source); });
  const uint64_t growth = peak_memory_bytes() - before;
  const double plain = seconds_of([&] {
    const auto file = posix_env().create(scratch.file("plain"));
    for (const auto& tensor : tensors)
      file->append(std::span(values).first(formats::size_bytes(tensor)));
    file->commit();
  });
  posix_env().remove_all(scratch.file("plain"));
  const double gigabytes = static_cast<double>(num_bytes) * 1e-9;
  return {gigabytes / ours, gigabytes / plain, growth};
}

// Every file whole, one after another, in pieces of 4 MiB by all threads.
void plain_read(const std::vector<std::string>& paths, std::span<std::byte> memory, int threads) {
  constexpr uint64_t kPiece = 4 << 20;
  for (const auto& path : paths) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    const uint64_t size = posix_env().file_size(path);
    const auto pieces = static_cast<int64_t>((size + kPiece - 1) / kPiece);
    parallel_for(pieces, threads, [&](int64_t i) {
      const uint64_t end = std::min<uint64_t>(size, (static_cast<uint64_t>(i) + 1) * kPiece);
      for (uint64_t at = static_cast<uint64_t>(i) * kPiece; at < end;) {
        const auto count = ::pread(fd.get(), memory.data() + at, end - at, static_cast<off_t>(at));
        DST_CHECK_AS(Unavailable, count > 0, "cannot read ", path);
        at += static_cast<uint64_t>(count);
      }
    });
    memory = memory.subspan(size);
  }
}

// Opens the folder as a program that starts does, then copies all tensors.
void load(const std::string& folder, std::span<std::byte> memory, int threads) {
  const formats::SafetensorsFolder opened(posix_env(), folder);
  std::vector<formats::TensorCopy> copies;
  for (const auto* tensor : opened.tensors()) {
    copies.push_back({tensor, std::nullopt, memory.first(tensor->bytes.size())});
    memory = memory.subspan(tensor->bytes.size());
  }
  formats::copy_tensors(copies, threads);
}

void check_loaded(const std::string& folder, std::span<const std::byte> memory) {
  const formats::SafetensorsFolder opened(posix_env(), folder);
  for (const auto* tensor : opened.tensors()) {
    DST_CHECK_AS(Internal, std::ranges::equal(memory.first(tensor->bytes.size()), tensor->bytes),
                 tensor->name, " was loaded wrong");
    memory = memory.subspan(tensor->bytes.size());
  }
}

void print_peer(const std::string& peer, double ours, double theirs, const std::string& config) {
  std::printf("  %-34s %6.2f GB/s   ours / theirs %.2f\n", peer.c_str(), theirs, ours / theirs);
  std::printf("%s\n", json_rate_line("load_safetensors", ours, peer, theirs, config).c_str());
}

void run(const Options& options) {
  const ScratchFolder scratch(options.folder);
  const auto tensors = tensors_of(options.gigabytes);
  uint64_t largest = 0, total = 0;
  for (const auto& tensor : tensors) {
    largest = std::max(largest, formats::size_bytes(tensor));
    total += formats::size_bytes(tensor);
  }
  std::vector<std::byte> values(largest);
  std::mt19937_64 random(1);
  for (size_t i = 0; i + 8 <= values.size(); i += 8) {
    const uint64_t word = random();
    std::memcpy(values.data() + i, &word, 8);
  }
  const Save save = bench_save(scratch, tensors, values);
  const std::string folder = scratch.file("checkpoint");
  std::vector<std::string> paths;
  for (const auto& name : posix_env().list(folder))
    if (name.ends_with(".safetensors")) paths.push_back(join_path(folder, name));

  const double gigabytes = static_cast<double>(total) * 1e-9;
  std::vector<std::byte> memory(total + (1 << 20));  // touched; headers too for the plain read
  std::vector<Contender> all = {
      {"ours", [&] { load(folder, memory, options.threads); }},
      {"plain read", [&] { plain_read(paths, memory, options.threads); }},
  };
  run_interleaved(all, options.repeats);
  load(folder, memory, options.threads);
  check_loaded(folder, memory);
  memory = {};

  const std::string config = concat(
      "{\"bytes\": ", total, ", \"tensors\": ", tensors.size(), ", \"shards\": ", paths.size(),
      ", \"threads\": ", options.threads, ", \"repeats\": ", options.repeats, "}");
  const auto rate = [&](double microseconds) { return gigabytes / (microseconds * 1e-6); };
  const double ours = rate(all[0].median());
  std::printf("%.2f GB in %zu shards, %d thread(s), medians of %d\n", gigabytes, paths.size(),
              options.threads, options.repeats);
  std::printf("load: ours %.2f GB/s\n", ours);
  print_peer("plain read (pread)", ours, rate(all[1].median()), config);
  for (const auto& [peer, seconds] :
       load_with_python(options.python, folder, options.threads, options.repeats))
    print_peer(peer, ours, gigabytes / seconds, config);
  std::printf(
      "save, synced: ours %.2f GB/s, plain write %.2f GB/s; peak of memory grew by %.1f MB, "
      "a shard is %.0f MB\n",
      save.ours, save.plain, static_cast<double>(save.peak_growth) * 1e-6,
      static_cast<double>(kMaxShardBytes) * 1e-6);
  std::printf(
      "%s\n",
      json_rate_line("save_safetensors", save.ours, "plain write", save.plain, config).c_str());
}

}  // namespace
}  // namespace deepseek_train::bench

int main(int argc, char** argv) try {
  deepseek_train::bench::Options options;
  CLI::App app("Loading and saving a checkpoint of safetensors");
  app.add_option("--gigabytes", options.gigabytes)->check(CLI::PositiveNumber);
  app.add_option("--threads", options.threads)->check(CLI::PositiveNumber);
  app.add_option("--repeats", options.repeats)->check(CLI::PositiveNumber);
  app.add_option("--folder", options.folder);
  app.add_option("--python", options.python,
                 "an interpreter with safetensors and torch; empty: none");
  CLI11_PARSE(app, argc, argv);
  deepseek_train::bench::run(options);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_load: %s\n", error.what());
  return 1;
}
