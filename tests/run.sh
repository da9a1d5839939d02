#!/usr/bin/env bash
# Sets up what is missing, builds, and runs every CI test. --all adds what is long: sanitizer builds and long trials.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cmake/bootstrap.sh
source cmake/env.sh

can_fuzz() {
  echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' |
    clang++ -fsanitize=fuzzer,address,undefined -x c++ - -o /dev/null 2>/dev/null
}

# clang and libFuzzer are for this step alone, so they are not among the packages of the set-up.
fuzz() {
  if ! can_fuzz; then
    if [ "$(id -u)" -ne 0 ]; then
      echo "[tests] the fuzz targets need clang and the libclang-rt-VERSION-dev of its version: apt-get install them" >&2
      return 1
    fi
    apt-get -qq update
    local version
    version="$(apt-cache depends clang | sed -n 's/.*Depends: clang-\([0-9]*\).*/\1/p')"
    echo "[tests] apt packages: clang libclang-rt-$version-dev"
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends clang "libclang-rt-$version-dev" >/dev/null
  fi
  tests/fuzz/run.sh "$1"
}

[ "${1:-}" != "--all" ] || export DST_LONG_TESTS=1
ctest --test-dir build/release --output-on-failure -j 2 --no-tests=error
if [ "${1:-}" = "--all" ]; then
  for preset in asan-ubsan tsan engines-only; do
    echo "[tests] $preset"
    cmake --preset "$preset" >/dev/null
    cmake --build "build/$preset" -j 2
    ctest --test-dir "build/$preset" --output-on-failure -j 2 --no-tests=error
  done
fi
fuzz "$([ "${1:-}" = "--all" ] && echo 600 || echo 30)"
.venv/bin/python -m pytest tests python -q --durations=8
