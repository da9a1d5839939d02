#!/usr/bin/env bash
# Builds the engines with the NCCL backend and runs its checks on this machine's GPUs: the model-based tests, then the
# real libraries with one rank, then with one rank a GPU if there are several. Prints "PASSED" or "FAILED" lines.
#   tests/collectives/nccl_gpu.sh [build folder]
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build="${1:-build/gpu}"

generator=()
command -v ninja >/dev/null && generator=(-G Ninja)
cmake -S . -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DDST_WITH_TORCH=OFF -DDST_WITH_NCCL=ON \
  -DDST_BUILD_BENCH=OFF &&
  cmake --build "$build" -j "$(nproc)" --target collectives_nccl_test nccl_gpu_program || exit 1

failed=0
run() {
  echo "== $*"
  timeout 300 "$@" || { echo "FAILED ($?): $*"; failed=1; }
}
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || { echo "FAILED: no GPU here"; exit 1; }
run "$build/tests/collectives_nccl_test" --gtest_brief=1
run "$build/tests/nccl_gpu_program"
gpus=$(nvidia-smi --query-gpu=name --format=csv,noheader | wc -l)
if [ "$gpus" -gt 1 ] && command -v mpirun >/dev/null; then
  run mpirun --allow-run-as-root --oversubscribe --bind-to none -n "$gpus" "$build/tests/nccl_gpu_program"
fi
exit $failed
