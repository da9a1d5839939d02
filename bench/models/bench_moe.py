"""Forward and backward of a DeepSeek-V2-Lite-like mixture of experts, ours against transformers' DeepseekV2Moe.

usage: bench_moe.py [--rounds N] [--seconds S] [--build FOLDER]

Rounds alternate between the two programs; each is measured for S seconds a round with the same weights, input,
dtype and number of threads. Prints one JSON object a line; the results are compared first.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import DeepseekV2Config
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Moe

ROOT = Path(__file__).resolve().parents[2]
SHAPE = dict(hidden_size=512, moe_intermediate_size=352, n_routed_experts=64, num_experts_per_tok=6, n_shared_experts=2)
TOKENS = 1024


def make_block(implementation):
    config = DeepseekV2Config(**SHAPE, topk_method="greedy")
    config._experts_implementation = implementation
    torch.manual_seed(0)
    block = DeepseekV2Moe(config)
    for parameter in block.parameters():
        parameter.data.normal_(0, 0.05)
    return block


def checkpoint_of(block):
    fused = ("experts.gate_up_proj", "experts.down_proj")
    tensors = {name: tensor for name, tensor in block.state_dict().items() if name not in fused}
    for i, both in enumerate(block.experts.gate_up_proj.detach()):
        tensors[f"experts.{i}.gate_proj.weight"], tensors[f"experts.{i}.up_proj.weight"] = both.chunk(2)
    for i, down in enumerate(block.experts.down_proj.detach()):
        tensors[f"experts.{i}.down_proj.weight"] = down
    return {name: tensor.clone().contiguous() for name, tensor in tensors.items()}


def theirs(block, hidden, gradient, limit):
    times, end = [], time.perf_counter() + limit
    while len(times) < 3 or time.perf_counter() < end:
        hidden.grad = None
        block.zero_grad()
        begin = time.perf_counter()
        output = block(hidden)
        output.backward(gradient)
        times.append(time.perf_counter() - begin)
    return times, output.detach().float(), hidden.grad.float()


def ours(program, folder, dtype, limit):
    subprocess.run([program, folder / "in.safetensors", folder / "out.safetensors", dtype,
                    str(SHAPE["num_experts_per_tok"]), str(limit)], check=True)  # fmt: skip
    result = load_file(folder / "out.safetensors")
    return result["seconds"].tolist(), result["output"], result["grad_hidden"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "release")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for dtype in ("float32", "bfloat16"):
            for implementation in ("eager", "grouped_mm"):
                measure(options, folder, dtype, implementation)


def measure(options, folder, dtype, implementation):
    block = make_block(implementation)
    generator = torch.Generator().manual_seed(1)
    hidden, gradient = (torch.randn(1, TOKENS, SHAPE["hidden_size"], generator=generator) for _ in range(2))
    save_file(checkpoint_of(block) | {"hidden": hidden, "gradient": gradient}, folder / "in.safetensors")
    kind = getattr(torch, dtype)
    block.to(kind)
    hidden, gradient = hidden.to(kind).requires_grad_(), gradient.to(kind)
    mine, peers = [], []
    for _ in range(options.rounds):
        times, output, grad_hidden = theirs(block, hidden, gradient, options.seconds)
        peers += times[1:]
        times, our_output, our_grad = ours(options.build / "bench" / "bench_moe", folder, dtype, options.seconds)
        mine += times[1:]
    bound = 1e-4 if dtype == "float32" else 0.05
    for a, b in ((our_output, output), (our_grad, grad_hidden)):
        assert (a - b).norm() <= bound * b.norm(), (a - b).norm() / b.norm()
    value, peer = (TOKENS / statistics.median(times) for times in (mine, peers))
    print(json.dumps({"name": "moe_forward_backward", "value": round(value), "unit": "tokens/s",
                      "peer": f"transformers DeepseekV2Moe, {implementation}", "peer_value": round(peer),
                      "ratio": round(value / peer, 2),
                      "config": {**SHAPE, "tokens": TOKENS, "dtype": dtype, "threads": torch.get_num_threads()}}),
          flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
