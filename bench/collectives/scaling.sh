#!/usr/bin/env bash
# Ranks in network namespaces with rate-limited links on one machine (not several nodes): ours, torch's Gloo and OpenMPI over
# TCP, one after another on the same links. As root:
#   bench/collectives/scaling.sh BUILD_FOLDER [RANKS=16] [LINK_MBIT=100] [--bytes N] [--repeats N]
# PEERS=none leaves Gloo and OpenMPI out. PER_HOST=2 puts two ranks into every namespace, as on a host of their own (hierarchical).
# STREAM_MBIT=25 also limits every connection, as some clouds do (by a hash of its ports into 16 classes).
# Makes namespaces dst0, dst1, ... behind a bridge in a namespace of its own, and removes them at the end.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
build="$(realpath "${1:?usage: scaling.sh BUILD_FOLDER [RANKS] [LINK_MBIT] [options]}")"
ranks="${2:-16}"
rate="${3:-100}"
per_host="${PER_HOST:-1}"
hosts=$((ranks / per_host))
shift $(($# < 3 ? $# : 3))
python="${PYTHON:-$here/../../.venv/bin/python}"

remove() {
  local host
  for ((host = 0; host < hosts; ++host)); do ip netns del "dst$host" 2>/dev/null || true; done
  ip netns del dstbridge 2>/dev/null || true
}
trap remove EXIT
remove

# A packet that the kernel has put together for a whole train of segments must fit into the limiter's burst, or the limiter takes it
# apart in software and the machine measures that (79 % of both cores instead of 14 %); network cards do it in hardware.
gso_bytes=48000

# Both directions of a link are limited: what a rank sends, and what the bridge sends to it.
limit() {
  local sport dport class
  if [ -z "${STREAM_MBIT:-}" ]; then
    tc -n "$1" qdisc add dev "$2" root tbf rate "${rate}mbit" burst 64kb latency 50ms
    return
  fi
  tc -n "$1" qdisc add dev "$2" root handle 1: htb default 10
  tc -n "$1" class add dev "$2" parent 1: classid 1:1 htb rate "${rate}mbit" quantum 60000
  for sport in 0 1 2 3; do
    for dport in 0 1 2 3; do
      class="1:$((10 + 4 * sport + dport))"
      tc -n "$1" class add dev "$2" parent 1:1 classid "$class" htb rate "${STREAM_MBIT}mbit" quantum 60000
      # The lowest bit is the same in all ports that the kernel gives out.
      tc -n "$1" filter add dev "$2" parent 1: protocol ip prio 1 u32 match ip sport $((2 * sport)) 6 \
        match ip dport $((2 * dport)) 6 flowid "$class"
    done
  done
}
ip netns add dstbridge
ip -n dstbridge link add bridge type bridge
ip -n dstbridge link set bridge up
for ((host = 0; host < hosts; ++host)); do
  ip netns add "dst$host"
  ip -n "dst$host" link add eth0 type veth peer name "veth$host" netns dstbridge
  ip -n dstbridge link set "veth$host" gso_max_size $gso_bytes master bridge up
  ip -n "dst$host" addr add "10.77.0.$((host + 1))/24" dev eth0
  ip -n "dst$host" link set eth0 gso_max_size $gso_bytes up
  ip -n "dst$host" link set lo up
  limit "dst$host" eth0
  limit dstbridge "veth$host"
done
echo "# $ranks ranks in $hosts network namespaces, links of $rate Mbit/s each way, $(cat /proc/sys/net/ipv4/tcp_congestion_control), MTU $(ip -n dst0 link show eth0 | sed -n 's/.*mtu \([0-9]*\).*/\1/p')"

# in_namespaces COMMAND: one process a rank, with torchrun's variables; those of a namespace believe themselves alone on a host.
in_namespaces() {
  local rank pids=() status=0
  for ((rank = 0; rank < ranks; ++rank)); do
    RANK=$rank WORLD_SIZE=$ranks LOCAL_RANK=$((rank % per_host)) LOCAL_WORLD_SIZE=$per_host MASTER_ADDR=10.77.0.1 MASTER_PORT=29533 \
      TORCHELASTIC_RUN_ID="scaling-$$" GLOO_SOCKET_IFNAME=eth0 ip netns exec "dst$((rank / per_host))" "$@" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || status=1; done
  return $status
}

in_namespaces "$build/bench/bench_scaling" --link-mbit "$rate" "$@"
[ "${PEERS:-all}" = all ] || exit 0
[ -x "$python" ] && in_namespaces "$python" "$here/gloo_scaling.py" --link-mbit "$rate" "$@"
if command -v mpirun >/dev/null; then
  places="$(seq -f "10.77.0.%g:$per_host" -s, "$hosts")"
  ip netns exec dst0 mpirun -n "$ranks" --host "$places" --allow-run-as-root --bind-to none \
    --mca plm_rsh_agent "$here/namespace_shell.sh" --mca pml ob1 --mca btl tcp,self --mca btl_tcp_if_include eth0 \
    --mca oob_tcp_if_include eth0 "$build/bench/bench_scaling_mpi" --link-mbit "$rate" "$@"
fi
