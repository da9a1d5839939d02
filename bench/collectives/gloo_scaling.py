"""torch's Gloo under the same links and the same timed computation as bench_scaling. Started by scaling.sh, one process a rank."""

import argparse
import json
import statistics
import time

import torch
import torch.distributed as dist

BUCKETS = 25


def time_of(body, data: torch.Tensor, repeats: int) -> float:
    """Median seconds of the slowest rank."""
    times = []
    for _ in range(repeats):
        data.fill_(dist.get_rank() + 1)
        dist.barrier()
        start = time.perf_counter()
        body()
        elapsed = torch.tensor([time.perf_counter() - start], dtype=torch.float64)
        dist.all_reduce(elapsed, op=dist.ReduceOp.MAX)
        times.append(elapsed.item())
    return statistics.median(times)


def overlapped_step(data: torch.Tensor, computation: float) -> None:
    start = time.perf_counter()
    works = []
    for b, bucket in enumerate(data.view(BUCKETS, -1)):
        release = computation * (1 + 2 * (b + 1) / BUCKETS) / 3
        time.sleep(max(0.0, start + release - time.perf_counter()))
        works.append(dist.all_reduce(bucket, async_op=True))
    for work in works:
        work.wait()


def report(name: str, value: float, unit: str, data: torch.Tensor) -> None:
    if dist.get_rank() == 0:
        print(json.dumps({"name": f"scaling_{name}", "value": round(value, 4), "unit": unit,
                          "config": {"bytes": data.nbytes, "ranks": dist.get_world_size(), "dtype": "float32",
                                     "transport": "gloo"}}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=16 << 20)
    parser.add_argument("--link-mbit", type=float, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    n = dist.get_world_size()
    data = torch.zeros(arguments.bytes // 4 // BUCKETS * BUCKETS)
    wire_bytes = 2 * (n - 1) / n * data.nbytes
    alone = time_of(lambda: dist.all_reduce(data), data, arguments.repeats)
    if not bool((data == n * (n + 1) // 2).all()):
        raise RuntimeError("Gloo gives a wrong sum")
    report("ring_line_rate", wire_bytes / alone / (arguments.link_mbit * 1e6 / 8), "share of the link's rate", data)
    for share in (0.5, 1.0, 2.0):
        computation = alone / share
        step = time_of(lambda: overlapped_step(data, computation), data, arguments.repeats)
        report(f"weak_{share}", computation / step, "T / step", data)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
