"""torch's Gloo all_reduce, measured as bench_all_reduce measures ours. Start under mpirun; MASTER_ADDR and MASTER_PORT are needed.

Each rank rewrites its input before every iteration; an iteration's time is that of the slowest rank; the result is the median of
the rounds' medians, printed by rank 0 as one JSON object per size.
"""

import argparse
import json
import os
import statistics
import time

import torch
import torch.distributed as dist

SIZES = [4 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20, 256 << 20]  # as bench_all_reduce's


def time_once(tensor: torch.Tensor) -> float:
    tensor.zero_()
    dist.barrier()
    start = time.perf_counter()
    dist.all_reduce(tensor)
    elapsed = torch.tensor([time.perf_counter() - start], dtype=torch.float64)
    dist.all_reduce(elapsed, op=dist.ReduceOp.MAX)
    return elapsed.item()


def verify(tensor: torch.Tensor) -> None:
    ranks = dist.get_world_size()
    tensor.fill_(dist.get_rank() + 1)
    dist.all_reduce(tensor)
    if not bool((tensor == ranks * (ranks + 1) // 2).all()):
        raise RuntimeError(f"Gloo gives a wrong sum of {tensor.nbytes} bytes")


def measure(num_bytes: int, rounds: int, seconds: float) -> float:
    tensor = torch.zeros(num_bytes // 4)
    medians = []
    for _ in range(rounds):
        verify(tensor)
        iterations = min(5000, max(3, int(seconds / max(time_once(tensor), 1e-7))))
        medians.append(statistics.median(time_once(tensor) for _ in range(iterations)))
    return statistics.median(medians)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-bytes", type=int, default=256 << 20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", rank=int(os.environ["OMPI_COMM_WORLD_RANK"]),
                            world_size=int(os.environ["OMPI_COMM_WORLD_SIZE"]))
    for num_bytes in (size for size in SIZES if size <= arguments.max_bytes):
        microseconds = measure(num_bytes, arguments.rounds, arguments.seconds) * 1e6
        if dist.get_rank() == 0:
            print(json.dumps({"name": "gloo_all_reduce", "value": round(microseconds, 2), "unit": "us",
                              "config": {"bytes": num_bytes, "ranks": dist.get_world_size(), "dtype": "float32",
                                         "transport": "tcp", "mode": "private"}}), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
