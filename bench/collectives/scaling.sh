#!/usr/bin/env bash
# Ranks in network namespaces with rate-limited links on one machine (not several nodes): ours, torch's Gloo and OpenMPI over
# TCP, one after another on the same links. As root:
#   bench/collectives/scaling.sh BUILD_FOLDER [RANKS=16] [LINK_MBIT=100] [--bytes N] [--repeats N]
# PEERS=none leaves Gloo and OpenMPI out.
# Makes namespaces dst0, dst1, ... behind a bridge in a namespace of its own, and removes them at the end.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
build="$(realpath "${1:?usage: scaling.sh BUILD_FOLDER [RANKS] [LINK_MBIT] [options]}")"
ranks="${2:-16}"
rate="${3:-100}"
shift $(($# < 3 ? $# : 3))
python="${PYTHON:-$here/../../.venv/bin/python}"

remove() {
  local rank
  for ((rank = 0; rank < ranks; ++rank)); do ip netns del "dst$rank" 2>/dev/null || true; done
  ip netns del dstbridge 2>/dev/null || true
}
trap remove EXIT
remove

# Both directions of a link are limited: what a rank sends, and what the bridge sends to it.
limit() { tc -n "$1" qdisc add dev "$2" root tbf rate "${rate}mbit" burst 64kb latency 50ms; }
ip netns add dstbridge
ip -n dstbridge link add bridge type bridge
ip -n dstbridge link set bridge up
for ((rank = 0; rank < ranks; ++rank)); do
  ip netns add "dst$rank"
  ip -n "dst$rank" link add eth0 type veth peer name "veth$rank" netns dstbridge
  ip -n dstbridge link set "veth$rank" master bridge up
  ip -n "dst$rank" addr add "10.77.0.$((rank + 1))/24" dev eth0
  ip -n "dst$rank" link set eth0 up
  ip -n "dst$rank" link set lo up
  limit "dst$rank" eth0
  limit dstbridge "veth$rank"
done
echo "# $ranks ranks in network namespaces, links of $rate Mbit/s each way, MTU $(ip -n dst0 link show eth0 | sed -n 's/.*mtu \([0-9]*\).*/\1/p')"

# in_namespaces COMMAND: one process a rank, with torchrun's variables; each believes itself alone on its host.
in_namespaces() {
  local rank pids=() status=0
  for ((rank = 0; rank < ranks; ++rank)); do
    RANK=$rank WORLD_SIZE=$ranks LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 MASTER_ADDR=10.77.0.1 MASTER_PORT=29533 \
      TORCHELASTIC_RUN_ID="scaling-$$" GLOO_SOCKET_IFNAME=eth0 ip netns exec "dst$rank" "$@" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || status=1; done
  return $status
}

in_namespaces "$build/bench/bench_scaling" --link-mbit "$rate" "$@"
[ "${PEERS:-all}" = all ] || exit 0
[ -x "$python" ] && in_namespaces "$python" "$here/gloo_scaling.py" --link-mbit "$rate" "$@"
if command -v mpirun >/dev/null; then
  hosts="$(seq -f '10.77.0.%g:1' -s, "$ranks")"
  ip netns exec dst0 mpirun -n "$ranks" --host "$hosts" --allow-run-as-root --bind-to none \
    --mca plm_rsh_agent "$here/namespace_shell.sh" --mca pml ob1 --mca btl tcp,self --mca btl_tcp_if_include eth0 \
    --mca oob_tcp_if_include eth0 "$build/bench/bench_scaling_mpi" --link-mbit "$rate" "$@"
fi
