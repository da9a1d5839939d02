#!/usr/bin/env bash
# Checks of the NCCL backend on this machine's GPUs: the tests over the model, then the real libraries with one rank, then
# with one rank a GPU if there are several. Prints "ok" and "FAILED" lines, and figures; ends with 1 if anything failed.
#   tests/collectives/nccl_gpu.sh [build folder]             builds and runs
#   tests/collectives/nccl_gpu.sh --build [build folder]     only builds: the programs need no CUDA library to link
#   tests/collectives/nccl_gpu.sh --run [build folder]       only runs, also what was built on another machine
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
what=all
case "${1:-}" in --build | --run) what="${1#--}"; shift ;; esac
build="${1:-build/gpu}"

# No MPI: one library less that the other machine must have. (mpirun starts the ranks all the same.)
build() {
  local generator=()
  command -v ninja >/dev/null && generator=(-G Ninja)
  cmake -S . -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DDST_WITH_TORCH=OFF -DDST_WITH_MPI=OFF \
    -DDST_WITH_NCCL=ON -DDST_BUILD_BENCH=OFF -DCMAKE_EXE_LINKER_FLAGS="-static-libstdc++ -static-libgcc" &&
    cmake --build "$build" -j "${DST_JOBS:-2}" --target collectives_nccl_test nccl_gpu_program
}

# Behind what the system finds: CUDA's folder, and the wheels that came with torch.
find_libraries() {
  local folders
  folders=$(python3 -c 'import glob, nvidia; print(":".join(d for p in nvidia.__path__ for d in glob.glob(p + "/*/lib")))' 2>/dev/null)
  export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/usr/local/cuda/lib64${folders:+:$folders}"
}

failed=0
run() {
  echo "== $*"
  timeout 240 "$@" || { echo "FAILED ($?): $*"; failed=1; }
}

check() {
  nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || echo "no nvidia-smi: one GPU, if any"
  find_libraries
  run "$build/tests/collectives_nccl_test" --gtest_brief=1
  run "$build/tests/nccl_gpu_program"
  local gpus
  gpus=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | wc -l)
  if [ "$gpus" -gt 1 ]; then
    local ranks=() rank
    for ((rank = 0; rank < gpus; ++rank)); do
      RANK=$rank WORLD_SIZE=$gpus LOCAL_RANK=$rank LOCAL_WORLD_SIZE=$gpus MASTER_ADDR=127.0.0.1 MASTER_PORT=29511 \
        timeout 240 "$build/tests/nccl_gpu_program" >"$build/rank$rank.log" 2>&1 &
      ranks+=($!)
    done
    for rank in "${!ranks[@]}"; do
      wait "${ranks[$rank]}" || { echo "FAILED: rank $rank of $gpus"; failed=1; }
    done
    cat "$build"/rank*.log
  fi
}

if [ "$what" != run ]; then build || exit 1; fi
if [ "$what" != build ]; then check; fi
exit $failed
