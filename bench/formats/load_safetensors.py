"""The safetensors package on a folder of shards: load_safetensors.py FOLDER THREADS REPEATS.

Prints "name<TAB>median seconds" for each way to have all values in memory that is there already.
"""

import statistics
import sys
import time
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file


def load_files(paths, memory):
    for path in paths:
        for name, tensor in load_file(path).items():
            memory[name].copy_(tensor)


def open_files(paths, memory):
    for path in paths:
        with safe_open(path, "pt") as file:
            for name in file.keys():
                memory[name].copy_(file.get_tensor(name))


def main():
    folder, threads, repeats = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    paths = sorted(folder.glob("*.safetensors"))
    memory = {name: tensor.clone() for path in paths for name, tensor in load_file(path).items()}
    ways = {"safetensors load_file + copy": load_files, "safetensors safe_open + copy": open_files}
    seconds = {name: [] for name in ways}
    for _ in range(repeats):
        for name, load in ways.items():
            start = time.perf_counter()
            load(paths, memory)
            seconds[name].append(time.perf_counter() - start)
    for name, times in seconds.items():
        print(f"{name}\t{statistics.median(times):.6f}")


main()
