"""The cost model of docs/scaling.md: fits latency and bandwidth to scaling.sh's lines and predicts all_reduce at other sizes.

  cost_model.py LINES.txt [--predict 1024 16384]

Model, n ranks, S bytes, a = seconds to pass a message on (latency and handling), b = seconds a byte on a link:
  ring          2 (n - 1) (a + S b / n)                     chunks follow each other round the ring
  direct        2 a' + 2 (n - 1) / n S b, a' = a log2 n     every slice to its owner, results to all; needs n - 1 streams a rank
  halving       2 a log2 n + 1.25 * 2 (n - 1) / n S b       powers of two; rounds do not overlap
  hierarchical  h hosts of g ranks: local(S) + ring over h hosts + local(S), with g links' worth of traffic on one link
a comes out negative behind a token-bucket limiter, whose burst travels at no cost after every pause.
The fit is least squares on the relative error over all lines with these ranks; the last column shows what it misses.
"""

import argparse
import json
import pathlib

import numpy as np


SMALL_BYTES = 256 << 10  # below it an all_reduce may go another way than the ring


def read(path: pathlib.Path) -> list[tuple[int, int, float]]:
    """(ranks, bytes, seconds) of every scaling_time line large enough for the ring."""
    rows = []
    for line in path.read_text().splitlines():
        if line.startswith("{"):
            record = json.loads(line)
            ranks, size = record["config"]["ranks"], record["config"]["bytes"]
            if record["name"] == "scaling_time" and size >= SMALL_BYTES:
                rows.append((ranks, size, record["value"]))
    return rows


def ring(n: float, size: float, a: float, b: float) -> float:
    return 2 * (n - 1) * (a + size * b / n)


def direct(n: float, size: float, a: float, b: float) -> float:
    return 2 * a * np.log2(n) + 2 * (n - 1) / n * size * b


def halving(n: float, size: float, a: float, b: float) -> float:
    return 2 * a * np.log2(n) + 1.25 * 2 * (n - 1) / n * size * b


def hierarchical(hosts: float, per_host: float, size: float, a: float, b: float, local_b: float) -> float:
    """Inside a host reduce and copy at memory speed, between hosts a ring of leaders."""
    return 2 * size * local_b * (per_host > 1) + ring(hosts, size, a, b)


def fit(rows: list[tuple[int, int, float]]) -> tuple[float, float]:
    """a and b of the ring, by least squares on relative errors."""
    matrix = np.array([[2 * (n - 1) / t, 2 * (n - 1) * size / n / t] for n, size, t in rows])
    solution, *_ = np.linalg.lstsq(matrix, np.ones(len(rows)), rcond=None)
    return float(solution[0]), float(solution[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lines", type=pathlib.Path)
    parser.add_argument("--hold-out", type=int, default=16, help="ranks left out of the fit, to check it on")
    parser.add_argument("--predict", type=int, nargs="*", default=[1024, 16384])
    arguments = parser.parse_args()
    rows = read(arguments.lines)
    a, b = fit([row for row in rows if row[0] != arguments.hold_out])
    print(f"a = {a * 1e6:.1f} us a message, b = {b * 1e9:.3f} ns a byte ({8e-6 / b:.1f} Mbit/s)")
    print("ranks      bytes  measured s     model s  error")
    for n, size, t in rows:
        predicted = ring(n, size, a, b)
        mark = " (held out)" if n == arguments.hold_out else ""
        print(f"{n:5d} {size:10d} {t:11.5f} {predicted:11.5f}  {predicted / t - 1:+.1%}{mark}")
    # A cluster's link instead of the rate-limited one: 100 Gbit/s, 10 us a message; memory at 20 GB/s a host.
    a, b, local_b = 10e-6, 8 / 100e9, 1 / 20e9
    print("\n100 Gbit/s, 10 us: seconds of an all_reduce\n  ranks      bytes       ring     direct    halving  hierarchical (8 a host)")
    for n in arguments.predict:
        for size in (1 << 20, 64 << 20, 1 << 30):
            print(f"{n:7d} {size:10d} {ring(n, size, a, b):10.5f} {direct(n, size, a, b):10.5f} "
                  f"{halving(n, size, a, b):10.5f} "
                  f"{hierarchical(n / 8, 8, size, a, b, local_b):10.5f}")


if __name__ == "__main__":
    main()
