#!/usr/bin/env bash
# What mpirun takes for ssh: namespace_shell.sh 10.77.0.N COMMAND... runs the command in namespace dst(N-1) under a host name of its own.
set -euo pipefail
rank=$((${1##*.} - 1))
shift
exec ip netns exec "dst$rank" unshare --uts bash -c 'hostname "$1"; shift; exec bash -c "$*"' bash "dst$rank" "$@"
