"""The peer of bench_lora: training steps of transformers + PEFT on given token ids.

usage: peft_steps.py MODEL ADAPTER IDS.safetensors DTYPE STEPS ADAPTERS   (ADAPTERS: the adapters' own dtype)
Prints one JSON object: loss and seconds of every step, memory before and at its peak.
"""

import json
import sys
import time
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def memory_mib(key):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def main():
    folder, adapter, ids_path, dtype, steps, adapters = sys.argv[1:]
    torch.set_num_threads(2)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="sdpa")
    # PEFT keeps adapters of a bfloat16 model in float32 unless told otherwise.
    model = PeftModel.from_pretrained(model, adapter, is_trainable=True, autocast_adapter_dtype=adapters == "float32")
    if adapters != "float32":
        model.to(getattr(torch, adapters))
    model.train()
    ids = load_file(ids_path)["input_ids"]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.01,
                                  fused=True)  # fmt: skip
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = memory_mib("VmRSS")
    losses, seconds = [], []
    for _ in range(int(steps)):
        begin = time.perf_counter()
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - begin)
        losses.append(loss.item())
    print(json.dumps({"losses": losses, "seconds": seconds, "before_mib": before, "peak_mib": memory_mib("VmHWM")}))


main()
