"""Files that the examples share: record sets as JSON lines, written so that a reader never sees half of one."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path


class PrepareError(Exception):
    """What is wrong with the input and what to do about it, in one line for the user."""


def hash_key(seed: str, *parts: object) -> str:
    """A position in a shuffled order that depends on nothing but the seed and the parts."""
    return hashlib.sha256("\x1f".join([seed, *map(str, parts)]).encode()).hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Writes beside `path`, syncs, then renames: after a crash either the old or the new file is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    write_atomically(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_record_set(folder: Path, splits: dict[str, list[dict]], label: str, source: dict) -> dict:
    """Writes NAME.jsonl for every split and summary.json with counts per class and SHA-256; returns the summary."""
    summary: dict = {"source": source, "files": {}}
    for name, records in splits.items():
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        write_atomically(folder / f"{name}.jsonl", text)
        summary["files"][f"{name}.jsonl"] = {
            "records": len(records),
            "classes": count_by(records, label),
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
        }
    write_json(folder / "summary.json", summary)
    return summary


def count_by(records: list[dict], label: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for record in records:
        counts[record[label]] = counts.get(record[label], 0) + 1
    return dict(sorted(counts.items()))


def read_records(path: Path, *fields: str) -> list[dict]:
    """Reads JSON lines and checks that every record has every field."""
    if not path.is_file():
        raise PrepareError(f"{path} does not exist: run prepare.py first")
    records = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise PrepareError(f"{path}:{number}: not JSON ({error}): run prepare.py again") from error
            missing = [field for field in fields if not isinstance(record, dict) or field not in record]
            if missing:
                raise PrepareError(f"{path}:{number}: no field {', '.join(missing)}: run prepare.py again")
            records.append(record)
    if not records:
        raise PrepareError(f"{path} is empty: run prepare.py again")
    return records


def print_counts(summary: dict) -> None:
    files = summary["files"]
    classes = sorted({name for file in files.values() for name in file["classes"]})
    print(f"{'class':<14}" + "".join(f"{name:>14}" for name in files))
    for name in classes:
        print(f"{name:<14}" + "".join(f"{file['classes'].get(name, 0):>14}" for file in files.values()))
    print(f"{'all':<14}" + "".join(f"{file['records']:>14}" for file in files.values()))
