// SHA-256 of a file in the page cache, as an inventory takes it, against Python's hashlib (OpenSSL)
// in the same run.
//   bench_inventory [--megabytes 512] [--repeats 5] [--folder /tmp] [--python PROGRAM]
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "bench/support/timing.h"
#include "deepseek_train/core/env.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/formats/inventory.h"
#include "deepseek_train/formats/safetensors.h"

namespace deepseek_train::bench {
namespace {

struct PeerHash {
  double microseconds = 0;
  std::string sha256;
};

PeerHash hash_with_python(const std::string& python, const std::string& path) {
  const auto command = concat("'", python,
                              "' -c \"import hashlib,sys,time;d=open(sys.argv[1],'rb').read();"
                              "s=time.perf_counter();h=hashlib.sha256(d).hexdigest();print((time."
                              "perf_counter()-s)*1e6,h)\" '",
                              path, "'");
  std::unique_ptr<FILE, int (*)(FILE*)> output(::popen(command.c_str(), "r"), ::pclose);
  PeerHash peer;
  char hex[65];
  DST_CHECK_AS(Unavailable,
               output && std::fscanf(output.get(), "%lf %64s", &peer.microseconds, hex) == 2,
               "failed: ", command);
  peer.sha256 = hex;
  return peer;
}

void run(int64_t megabytes, int repeats, const std::string& folder, const std::string& python) {
  const auto path = join_path(folder, concat("dst_bench_inventory-", ::getpid(), ".safetensors"));
  const std::shared_ptr<void> remover(nullptr, [&](void*) { ::unlink(path.c_str()); });
  std::vector<std::byte> values(static_cast<size_t>(megabytes) * 1'000'000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::byte>(i * i >> 7);
  formats::SafetensorsWriter writer(posix_env(), path,
                                    {{"t", DType::kUInt8, {megabytes * 1'000'000}}});
  writer.write_next(values);
  writer.commit();

  std::string sha256;
  PeerHash peer;
  std::vector<double> theirs;
  std::vector<Contender> all = {
      {"ours", [&] { sha256 = formats::take_inventory(posix_env(), path, 1).shards[0].sha256; }},
      {"hashlib", [&] {
         peer = hash_with_python(python, path);
         theirs.push_back(peer.microseconds);
       }}};
  run_interleaved(all, repeats);
  DST_CHECK_AS(Internal, sha256 == peer.sha256, "the hashes differ: ", sha256, ", ", peer.sha256);
  std::sort(theirs.begin(), theirs.end());
  const auto rate = [&](double microseconds) {
    return static_cast<double>(values.size()) * 1e-3 / microseconds;
  };
  const double ours = rate(all[0].median()), hashlib = rate(theirs[theirs.size() / 2]);
  std::printf("SHA-256 of %ld MB, one thread: ours (file) %.2f GB/s, hashlib (memory) %.2f GB/s\n",
              long(megabytes), ours, hashlib);
  std::printf("%s\n", json_rate_line("sha256_of_a_file", ours, "hashlib", hashlib,
                                     concat("{\"bytes\": ", values.size(), ", \"threads\": 1}"))
                          .c_str());
}

}  // namespace
}  // namespace deepseek_train::bench

int main(int argc, char** argv) try {
  int64_t megabytes = 512;
  int repeats = 5;
  std::string folder = "/tmp", python = ".venv/bin/python";
  CLI::App app("SHA-256 of a checkpoint's file");
  app.add_option("--megabytes", megabytes)->check(CLI::PositiveNumber);
  app.add_option("--repeats", repeats)->check(CLI::PositiveNumber);
  app.add_option("--folder", folder);
  app.add_option("--python", python, "any interpreter");
  CLI11_PARSE(app, argc, argv);
  deepseek_train::bench::run(megabytes, repeats, folder, python);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_inventory: %s\n", error.what());
  return 1;
}
