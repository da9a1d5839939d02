#!/usr/bin/env bash
# From nothing to a verified INT8 model: sets up, prepares real records, trains on two ranks, prints the report.
# Stopped with Ctrl-C, the same command goes on where it was.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cmake/bootstrap.sh
source cmake/env.sh

if [ ! -f examples/routing/records/test.jsonl ]; then
  echo "[quickstart] preparing records from this machine's package index"
  .venv/bin/python examples/routing/prepare.py
fi
[ -f examples/routing/baseline.json ] || .venv/bin/python examples/routing/baseline.py
exec mpirun -n 2 build/release/bin/deepseek-train run examples/routing/quickstart.yaml
