#!/usr/bin/env bash
# all_reduce under TLS beside clear text, 2 ranks: on loopback against plain + 1.2 x bytes over the AES-128-GCM rate of
# `openssl speed` (16 KiB blocks), and on rate-limited links between network namespaces (as root, scaling.sh) against 1.05 x plain.
#   bench/collectives/tls.sh BUILD_FOLDER [LINK_MBIT...]     (default 1000 100; 0: loopback alone)
# Runs take turns; each figure is the median of ROUNDS (default 5) of them. Prints one JSON object per line; ratio > 1 keeps the target.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
build="$(realpath "${1:?usage: tls.sh BUILD_FOLDER [LINK_MBIT...]}")"
shift
links=("$@")
[ $# -gt 0 ] || links=(1000 100)
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
"$here/make_certificates.sh" "$scratch/certificates" 2 >/dev/null 2>&1
secure=(--credentials "$scratch/certificates")

loopback() { # loopback OUTPUT [OPTION...]
  local output="$1"
  shift
  mpirun -n 2 --oversubscribe --allow-run-as-root --bind-to none -x MASTER_ADDR=127.0.0.1 -x MASTER_PORT=29535 \
    "$build/bench/bench_all_reduce" --transport tcp --only private --rounds 1 --seconds 0.1 --json "$@" >>"$output"
}
for ((round = 0; round < ${ROUNDS:-5}; ++round)); do
  openssl speed -seconds 1 -bytes 16384 -evp aes-128-gcm 2>/dev/null | tail -n 1 >>"$scratch/speed"
  loopback "$scratch/plain"
  loopback "$scratch/tls" "${secure[@]}"
done
python3 "$here/tls_table.py" loopback "$scratch/plain" "$scratch/tls" "$scratch/speed"

for link in "${links[@]}"; do
  [ "$link" != 0 ] || continue
  # About half a second of the link.
  options=(--bytes $((link << 16)) --repeats 3)
  PEERS=none "$here/scaling.sh" "$build" 2 "$link" "${options[@]}" >"$scratch/plain.$link"
  PEERS=none "$here/scaling.sh" "$build" 2 "$link" "${options[@]}" "${secure[@]}" >"$scratch/tls.$link"
  python3 "$here/tls_table.py" "$link" "$scratch/plain.$link" "$scratch/tls.$link"
done
