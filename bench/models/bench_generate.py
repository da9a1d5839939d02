"""Greedy generation, batch 1, ours beside transformers', in turns: tokens per second and whether the tokens are the same.

usage: .venv/bin/python bench/models/bench_generate.py MODEL_FOLDER [--prompt 64] [--new 64] [--rounds 7] [--threads 2]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def serve_transformers(model, dtype, prompt, new):
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
    ids = torch.tensor([[1000 + 7 * i for i in range(prompt)]])
    for _ in sys.stdin:
        begin = time.perf_counter()
        with torch.inference_mode():
            rows = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new,
                                  do_sample=False)  # fmt: skip
        print(json.dumps({"seconds": time.perf_counter() - begin, "tokens": rows[0, prompt:].tolist()}), flush=True)


def start(command, threads):
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                            env=environment)  # fmt: skip


def ask(server):
    server.stdin.write("go\n")
    server.stdin.flush()
    line = server.stdout.readline()
    if not line:
        sys.exit(f"{server.args[0]} ended")
    return json.loads(line)


def measure(arguments, dtype):
    values = [arguments.model, dtype, arguments.prompt, arguments.new]
    servers = {
        "ours": start([ROOT / "build/release/bench/generate_server", *values], arguments.threads),
        "transformers": start([sys.executable, __file__, "--serve", *values], arguments.threads),
    }
    answers = {name: ask(server) for name, server in servers.items()}  # warm-up
    seconds = {name: [] for name in servers}
    for _ in range(arguments.rounds):
        for name, server in servers.items():
            seconds[name].append(ask(server)["seconds"])
    for server in servers.values():
        server.stdin.close()
        server.wait()
    same = sum(a == b for a, b in zip(answers["ours"]["tokens"], answers["transformers"]["tokens"]))
    rate = {name: arguments.new / statistics.median(values) for name, values in seconds.items()}
    print(json.dumps({
        "name": "generate", "value": round(rate["ours"], 2), "unit": "tokens/s", "peer": "transformers",
        "peer_value": round(rate["transformers"], 2), "ratio": round(rate["ours"] / rate["transformers"], 3),
        "config": {"model": Path(arguments.model).name, "dtype": dtype, "batch": 1, "prompt": arguments.prompt,
                   "new": arguments.new, "threads": arguments.threads, "same_tokens": same},
    }))  # fmt: skip


def main():
    if sys.argv[1:2] == ["--serve"]:
        return serve_transformers(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    for dtype in ("float32", "bfloat16"):
        measure(arguments, dtype)


if __name__ == "__main__":
    main()
