#!/usr/bin/env python3
"""Every public header without libtorch compiles alone, and a second inclusion adds nothing.

The headers that show libtorch would take half a minute each: they are compiled together, with all others, by the CMake
target dst_all_headers.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from source_tree import PUBLIC, includes_of, is_public, resolve, source_files

ROOT = Path(__file__).resolve().parents[2]
TORCH = ("torch/", "ATen/", "c10/")
TIMEOUT_SECONDS = 120


def shows_torch(root: Path, path: str) -> bool:
    """Whether the header includes libtorch, itself or through headers of ours."""
    seen: set[str] = set()
    waiting = [path]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        for include in includes_of(root, current):
            if include.header.startswith(TORCH):
                return True
            target = resolve(root, include.header)
            if target is not None:
                waiting.append(target)
    return False


def compile_alone(root: Path, compiler: str, path: str) -> str | None:
    """The compiler's complaint, or None."""
    name = path.removeprefix(PUBLIC)
    command = [
        compiler,
        "-std=c++20",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fsyntax-only",
        f"-I{root / PUBLIC}",
        "-xc++",
        "-",
    ]
    text = f'#include "{name}"\n#include "{name}"\n'
    result = subprocess.run(command, input=text, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    return None if result.returncode == 0 else f"{path} does not compile alone:\n{result.stderr}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT)
    parser.add_argument("--compiler", default="g++")
    options = parser.parse_args()
    root = options.root.resolve()
    headers = [p for p in source_files(root) if is_public(p) and not shows_torch(root, p)]
    if not headers:
        print(f"no public header under {root / PUBLIC}: nothing was checked", file=sys.stderr)
        return 1
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        complaints = list(filter(None, pool.map(lambda p: compile_alone(root, options.compiler, p), headers)))
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    print(f"{len(headers)} headers compiled alone, {len(complaints)} failed")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
