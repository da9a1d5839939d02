"""Writes pytorch_sampler_table.h: indices of torch.utils.data.DistributedSampler without shuffling.

Run by hand when cases are added: .venv/bin/python tests/data/make_pytorch_sampler_table.py
"""

import pathlib

import torch
from torch.utils.data import DistributedSampler

CASES = [(1, 1), (1, 4), (2, 5), (3, 8), (7, 2), (8, 2), (9, 4), (10, 3), (12, 4), (13, 6), (17, 16)]


def rows():
    for num_samples, num_replicas in CASES:
        for drop_last in (False, True):
            for rank in range(num_replicas):
                sampler = DistributedSampler(range(num_samples), num_replicas, rank, shuffle=False, drop_last=drop_last)
                indices = ", ".join(map(str, sampler))
                yield f"    {{{num_samples}, {num_replicas}, {rank}, {str(drop_last).lower()}, {{{indices}}}}},"


def main():
    path = pathlib.Path(__file__).with_name("pytorch_sampler_table.h")
    lines = [
        f"// Made by make_pytorch_sampler_table.py with torch {torch.__version__.split('+')[0]}.",
        "#pragma once",
        "",
        "#include <cstdint>",
        "#include <vector>",
        "",
        "namespace deepseek_train::data {",
        "",
        "struct PyTorchSamplerCase {",
        "  int64_t num_samples;",
        "  int num_replicas;",
        "  int rank;",
        "  bool drop_last;",
        "  std::vector<int64_t> indices;",
        "};",
        "",
        "inline const std::vector<PyTorchSamplerCase> kPyTorchSamplerCases = {",
        *rows(),
        "};",
        "",
        "}  // namespace deepseek_train::data",
    ]
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
