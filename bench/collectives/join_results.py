"""Joins the JSON lines of bench_all_reduce and gloo_all_reduce: medians over the sittings, ratio of ours to Gloo."""

import json
import pathlib
import statistics
import sys


def read(folder: pathlib.Path, pattern: str) -> dict:
    """Values by (bytes, mode), one per sitting."""
    values: dict = {}
    for path in sorted(folder.glob(pattern)):
        for line in path.read_text().splitlines():
            if line.startswith("{"):
                record = json.loads(line)
                key = (record["config"]["bytes"], record["config"]["mode"])
                values.setdefault(key, []).append(record)
    return values


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    gloo = read(folder, "gloo.*")
    for (num_bytes, mode), records in sorted(read(folder, "ours.*").items()):
        peer = statistics.median(record["value"] for record in gloo[num_bytes, "private"])
        value = statistics.median(record["value"] for record in records)
        print(json.dumps({"name": "all_reduce", "value": value, "unit": "us", "peer": "torch-gloo", "peer_value": peer,
                          "ratio": round(peer / value, 3), "config": records[0]["config"]}))


if __name__ == "__main__":
    main()
