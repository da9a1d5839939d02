#!/usr/bin/env bash
# Sets up what is missing, builds, and runs every CI test. --all adds what is long: sanitizer builds and long trials.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cmake/bootstrap.sh
source cmake/env.sh

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
.venv/bin/python -m pytest tests python -q --durations=8
