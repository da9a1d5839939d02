#!/usr/bin/env bash
# Ours, OpenMPI and torch's Gloo in one sitting: bench/collectives/all_reduce.sh BUILD_FOLDER [RANKS] [options of bench_all_reduce]
# Ours and MPI alternate within one program, Gloo takes its turn between such programs, SITTINGS (default 3) times over; then
# the ratios to Gloo are joined from the sittings' medians.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
build="${1:?usage: all_reduce.sh BUILD_FOLDER [RANKS] [options]}"
ranks="${2:-2}"
shift $(($# < 2 ? $# : 2))
python="${PYTHON:-$here/../../.venv/bin/python}"
results="$(mktemp -d)"
trap 'rm -rf "$results"' EXIT
# Gloo has one transport and one type only.
gloo_options=()
for ((i = 1; i < $#; i += 2)); do
  case "${!i}" in --max-bytes|--rounds|--seconds) j=$((i + 1)); gloo_options+=("${!i}" "${!j}") ;; esac
done
launch=(mpirun -n "$ranks" --oversubscribe --allow-run-as-root --bind-to none)

for sitting in $(seq "${SITTINGS:-3}"); do
  "${launch[@]}" "$build/bench/bench_all_reduce" "$@" | tee "$results/ours.$sitting"
  MASTER_ADDR=127.0.0.1 MASTER_PORT="${MASTER_PORT:-29511}" "${launch[@]}" -x MASTER_ADDR -x MASTER_PORT \
    "$python" "$here/gloo_all_reduce.py" "${gloo_options[@]}" | tee "$results/gloo.$sitting"
done
"$python" "$here/join_results.py" "$results"
