#!/usr/bin/env python3
"""Fails if a static library of the lower layers needs a symbol of libtorch: `check_no_torch.py libdst_core.a ...`."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

# In a demangled name, as a namespace of its own: not std::vector::at, not deepseek_train::quantization::torch.
TORCH_NAMESPACE = re.compile(r"(?<![\w:])(?:at|c10|caffe2|torch)::")
TIMEOUT_SECONDS = 120


class CheckError(Exception):
    """The library could not be looked into."""


def undefined_symbols(library: Path, nm: str) -> list[str]:
    """Demangled names that the library expects from others."""
    if not library.is_file():
        raise CheckError(f"{library} does not exist: build it first")
    command = [nm, "--demangle", "--undefined-only", str(library)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    if result.returncode != 0:
        raise CheckError(f"nm failed on {library}: {result.stderr.strip()}")
    symbols = re.findall(r"^\s+[Uw] (.+)$", result.stdout, re.MULTILINE)
    if not symbols:
        raise CheckError(f"{library} needs no symbol at all, which cannot be: is it an archive of objects?")
    return symbols


def torch_symbols(library: Path, nm: str = "nm") -> list[str]:
    return sorted({symbol for symbol in undefined_symbols(library, nm) if TORCH_NAMESPACE.search(symbol)})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nm", default="nm")
    parser.add_argument("libraries", nargs="+", type=Path)
    options = parser.parse_args()
    failed = False
    for library in options.libraries:
        try:
            needed = torch_symbols(library, options.nm)
        except (CheckError, OSError) as error:
            print(error, file=sys.stderr)
            failed = True
            continue
        if needed:
            print(f"{library.name} needs libtorch: {len(needed)} symbols, such as {needed[0]}", file=sys.stderr)
            failed = True
        else:
            print(f"{library.name} needs no libtorch")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
