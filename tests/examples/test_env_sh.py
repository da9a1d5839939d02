"""cmake/env.sh: sourcing it is enough to start more ranks than cores, as root or not."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def shell(command, **variables):
    launchers = ("OMPI_", "OMP_", "PMIX_", "PRTE_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(launchers)}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"source {ROOT}/cmake/env.sh; {command}"],
        env={**clean, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_four_ranks_start_on_one_core_unbound():
    core = min(os.sched_getaffinity(0))
    result = shell(f"taskset -c {core} mpirun -n 4 bash -c 'echo rank $OMPI_COMM_WORLD_RANK'")
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.split("\n")[:-1]) == [f"rank {i}" for i in range(4)]


def test_ranks_are_not_bound_to_a_core():
    cores = len(os.sched_getaffinity(0))
    result = shell("mpirun -n 2 nproc")
    assert result.stdout.split() == [str(cores)] * 2, result.stderr


def test_twice_is_once_and_the_users_values_win():
    command = f'source {ROOT}/cmake/env.sh; echo "$OMPI_MCA_odls_base_sigkill_timeout $PATH"'
    timeout, path = shell(command, OMPI_MCA_odls_base_sigkill_timeout="7").stdout.strip().split(" ", 1)
    assert timeout == "7"
    assert path.split(":").count(f"{ROOT}/.venv/bin") == 1
    assert shell('echo "$OMPI_MCA_odls_base_sigkill_timeout"').stdout.strip() == "60"
