#!/usr/bin/env python3
"""LoRA training steps beside transformers + PEFT: tokens a second and peak memory.

usage: bench/tuning/bench_lora.py [--model FOLDER] [--batch N] [--length N] [--rounds N] [--steps N]
Both train the same adapter (r = 8, all linear layers) on the same tokens, every one of them predicted, in processes
of their own that take turns; the losses of all steps must agree. The first step of a process only warms up.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parents[2]
OURS = ROOT / "build" / "release" / "bench" / "lora_steps"
PEER = ROOT / "bench" / "tuning" / "peft_steps.py"
# name: (model and activations, the peer's adapters). PEFT's own choice comes first.
KINDS = {"fp32": ("float32", "float32"), "bf16": ("bfloat16", "float32"), "bf16-adapters": ("bfloat16", "bfloat16")}


def write_inputs(options, folder):
    """An adapter that changes the model already (B is not zero), and token ids of real text."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.01)
    model.save_pretrained(folder / "adapter")
    text = "\n".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))
    ids = AutoTokenizer.from_pretrained(options.model)(text)["input_ids"]
    count = options.batch * options.length
    ids = (ids * (count // len(ids) + 1))[:count]
    save_file({"input_ids": torch.tensor(ids).view(options.batch, options.length)}, folder / "ids.safetensors")


def measure(command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600)
    if result.returncode != 0:
        sys.exit(f"{command} failed:\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def check_losses(ours, theirs, dtype):
    tolerance = 1e-4 if dtype == "float32" else 2e-2
    for a, b in zip(ours["losses"], theirs["losses"], strict=True):
        if abs(a - b) > tolerance * abs(b):
            sys.exit(f"the losses differ: {ours['losses']} and {theirs['losses']}")


def compare(kind, options, folder):
    dtype, adapters = KINDS[kind]
    arguments = [options.model, folder / "adapter", folder / "ids.safetensors", dtype, options.steps]
    runs = {"ours": [], "theirs": []}
    for _ in range(options.rounds):
        runs["ours"].append(measure([OURS, *arguments]))
        runs["theirs"].append(measure([sys.executable, PEER, *arguments, adapters]))
        check_losses(runs["ours"][-1], runs["theirs"][-1], dtype)
    config = {"model": Path(options.model).name, "batch": options.batch, "length": options.length, "r": 8,
              "target_modules": "all-linear", "compute": dtype, "peer_adapters": adapters, "threads": 2}  # fmt: skip
    tokens = options.batch * options.length
    speed = {who: tokens / statistics.median(s for run in all_runs for s in run["seconds"][1:])
             for who, all_runs in runs.items()}  # fmt: skip
    yield dict(name=f"lora_step_{kind}", value=round(speed["ours"], 1), unit="tokens/s", peer="transformers+peft",
               peer_value=round(speed["theirs"], 1), ratio=round(speed["ours"] / speed["theirs"], 3), config=config)  # fmt: skip
    for name, of in (("peak", lambda run: run["peak_mib"]), ("rise", lambda run: run["peak_mib"] - run["before_mib"])):
        memory = {who: statistics.median(map(of, all_runs)) for who, all_runs in runs.items()}
        yield dict(name=f"lora_{name}_memory_{kind}", value=round(memory["ours"]), unit="MiB",
                   peer="transformers+peft", peer_value=round(memory["theirs"]),
                   ratio=round(memory["theirs"] / memory["ours"], 3), config=config)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a Hugging Face folder: deepseek-train export --format bf16")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(options, Path(folder))
        for kind in options.kinds:
            for line in compare(kind, options, Path(folder)):
                print(json.dumps(line), flush=True)


main()
