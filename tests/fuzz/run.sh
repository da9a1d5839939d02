#!/usr/bin/env bash
# Builds the fuzz targets with clang and runs each for some seconds: tests/fuzz/run.sh [SECONDS] [NAME...]
# The corpus grows in build/fuzz/corpus; an input that crashes, hangs or wants too much memory is left in
# build/fuzz/findings, and the script fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source cmake/env.sh

seconds="${1:-30}"
shift || true
cmake --preset fuzz >/dev/null
cmake --build build/fuzz --target fuzzers -j "${DST_JOBS:-2}"

if [ $# -eq 0 ]; then
  for program in build/fuzz/fuzz/*_fuzz; do
    set -- "$@" "$(basename "$program" _fuzz)"
  done
fi
mkdir -p build/fuzz/findings
for name in "$@"; do
  mkdir -p "build/fuzz/corpus/$name"
  log="build/fuzz/$name.log"
  echo "[fuzz] $name, $seconds s"
  if ! "build/fuzz/fuzz/${name}_fuzz" "build/fuzz/corpus/$name" "tests/fuzz/seeds/$name" -max_total_time="$seconds" \
    -max_len=65536 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/findings/$name-" >"$log" 2>&1; then
    tail -n 60 "$log"
    echo "[fuzz] $name failed; run it on the file in build/fuzz/findings again to see why" >&2
    exit 1
  fi
  grep -E "number_of_executed_units|average_exec_per_sec|peak_rss_mb" "$log"
done
