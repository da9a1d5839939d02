"""Compares runs in clear text and under TLS; called by tls.sh: tls_table.py loopback|LINK_MBIT PLAIN TLS [SPEED]."""

import json
import statistics
import sys


def medians(path, name):
    """Median seconds by bytes of a file of JSON lines."""
    times = {}
    for line in open(path):
        if not line.startswith("{"):
            continue
        record = json.loads(line)
        if record["name"] == name:
            seconds = record["value"] * {"us": 1e-6, "s": 1}[record["unit"]]
            times.setdefault(record["config"]["bytes"], []).append(seconds)
    return {size: statistics.median(values) for size, values in times.items()}


def aes_rate(path):
    """Bytes a second from the last lines of `openssl speed` (AES-128-GCM  6744424.45k)."""
    return statistics.median(float(line.split()[-1].rstrip("k")) * 1e3 for line in open(path))


def main(where, plain_path, tls_path, speed_path=None):
    rate = aes_rate(speed_path) if speed_path else None
    name = "all_reduce" if rate else "scaling_time"
    plain, tls = medians(plain_path, name), medians(tls_path, name)
    for size in sorted(plain):
        allowed = plain[size] + 1.2 * size / rate if rate else 1.05 * plain[size]
        config = {"bytes": size, "ranks": 2, "dtype": "float32", "transport": "tls", "mode": "private",
                  "plain_us": round(plain[size] * 1e6, 2)}  # fmt: skip
        if rate:
            config["aes_128_gcm_GB_per_s"] = round(rate / 1e9, 2)
        else:
            config["link_mbit"] = int(where)
        print(json.dumps({"name": "tls_loopback" if rate else "tls_limited_link", "value": round(tls[size] * 1e6, 2),
                          "unit": "us", "peer": "allowed", "peer_value": round(allowed * 1e6, 2),
                          "ratio": round(allowed / tls[size], 3), "config": config}))  # fmt: skip


main(*sys.argv[1:])
