"""The C++ files of a tree and what they include."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOMS = ("include", "src", "collectives", "quantization", "python", "examples", "bench", "tests")
SUFFIXES = frozenset((".h", ".hpp", ".cc", ".cpp", ".cu", ".cuh"))
SKIPPED_FOLDERS = frozenset(("build", "__pycache__", ".venv"))
PUBLIC = "include/"
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.MULTILINE)


@dataclass(frozen=True)
class Include:
    line: int
    header: str
    quoted: bool


def source_files(root: Path) -> Iterator[str]:
    """Paths from the root, sorted."""
    for room in ROOMS:
        for path in sorted((root / room).rglob("*")):
            relative = path.relative_to(root)
            if path.suffix in SUFFIXES and path.is_file() and not SKIPPED_FOLDERS & set(relative.parts):
                yield relative.as_posix()


def is_public(path: str) -> bool:
    return path.startswith(PUBLIC)


def includes_of(root: Path, path: str) -> list[Include]:
    text = (root / path).read_text(encoding="utf-8", errors="replace")
    return [
        Include(text.count("\n", 0, match.start()) + 1, match[2], match[1] == '"') for match in INCLUDE.finditer(text)
    ]


def is_standard(header: str) -> bool:
    """C++'s own headers are the ones without a folder and without a suffix."""
    return re.fullmatch(r"[a-z0-9_]+", header) is not None


def resolve(root: Path, header: str) -> str | None:
    """The file of ours that this include names, as a path from the root."""
    for candidate in (PUBLIC + header, header):
        if (root / candidate).is_file():
            return candidate
    return None
