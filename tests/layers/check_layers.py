#!/usr/bin/env python3
"""Fails on every #include that the tables of docs/architecture.md do not allow."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from layer_table import EVERYBODY, TESTS, Component, LayerTable, TableError, read_layer_table
from source_tree import includes_of, is_public, is_standard, resolve, source_files

ROOT = Path(__file__).resolve().parents[2]
TABLE = "docs/architecture.md"


def violations(root: Path, table: LayerTable) -> list[str]:
    """One line for each bad include, "path:line: what is wrong"."""
    found = []
    for path in source_files(root):
        component = table.component_of(path)
        if component is None:
            found.append(f"{path}:1: belongs to no component of {TABLE}: add its folder there")
            continue
        for include in includes_of(root, path):
            problem = problem_with(root, table, path, component, include.header, include.quoted)
            if problem:
                found.append(f"{path}:{include.line}: {problem}")
    return found


def problem_with(
    root: Path, table: LayerTable, path: str, component: Component, header: str, quoted: bool
) -> str | None:
    target = resolve(root, header)
    if target is None and quoted and path.startswith("examples/") and (root / path).with_name(header).is_file():
        return None  # an example is a project of its own: it finds its headers beside itself
    if target is not None:
        return problem_with_own(table, path, component, target)
    if quoted or header.startswith("deepseek_train/"):
        return f'"{header}" is no file of this tree: name headers by their path from the root or from include/'
    if is_standard(header):
        return None
    return problem_with_library(table, path, component, header)


def problem_with_own(table: LayerTable, path: str, component: Component, target: str) -> str | None:
    owner = table.component_of(target)
    if owner is None:
        return f"{target} belongs to no component of {TABLE}"
    if owner.name not in component.allowed:
        return f"{component.name} may not include {owner.name} ({target})"
    if is_public(target):
        return None
    if is_public(path):
        return f"a public header may not include the private {target}"
    if component.name not in (owner.name, f"{owner.name}/torch", TESTS):
        return f"{component.name} may use only public headers of {owner.name}, and {target} is private"
    return None


def problem_with_library(table: LayerTable, path: str, component: Component, header: str) -> str | None:
    if component.name == TESTS:
        return None
    library = table.library_of(header)
    if library is None:
        return f"<{header}> belongs to no library of {TABLE}: add it there, or use the C++ header"
    if is_public(path):
        allowed = library.public
        kind = f"public headers of {component.name}"
    else:
        allowed = library.private
        kind = component.name
    return None if allowed & {component.name, EVERYBODY} else f"{kind} may not include {library.name} (<{header}>)"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree to check")
    root = parser.parse_args().root.resolve()
    try:
        table = read_layer_table(root / TABLE)
    except (TableError, OSError) as error:
        print(f"{TABLE}: {error}", file=sys.stderr)
        return 1
    files = list(source_files(root))
    if not files:
        print(f"no C++ file under {root}: nothing was checked", file=sys.stderr)
        return 1
    found = violations(root, table)
    for line in found:
        print(line, file=sys.stderr)
    print(f"{len(files)} files, {len(table.components)} components, {len(found)} includes not allowed")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
