#!/usr/bin/env python3
"""Makes the routing task from the package index of this machine: short description -> archive section.

Writes {train,test}.jsonl with records {"package", "description", "section"} and summary.json. Standard library only;
the same index gives the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))

from records import PrepareError, hash_key, print_counts, write_record_set  # noqa: E402

SECTIONS = frozenset("doc science games sound graphics fonts web mail editors database electronics video".split())
TEST_PER_SECTION = 50
MAX_TRAIN_PER_SECTION = 250
FEW_TRAIN_PER_SECTION = 50
SEED = "routing-1"
FIELD = re.compile(r"^(Package|Source|Section|Description|Description-en): (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Record:
    package: str
    source: str  # the source package, its version suffix removed: near-twins share it
    description: str
    section: str

    def as_json(self) -> dict:
        return {"package": self.package, "description": self.description, "section": self.section}


def read_index() -> str:
    """The text of `apt-cache dumpavail`."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        result = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, env=environment, timeout=120)
    except FileNotFoundError as error:
        raise PrepareError("apt-cache was not found: this example reads a Debian or Ubuntu package index") from error
    except subprocess.TimeoutExpired as error:
        raise PrepareError("apt-cache dumpavail did not end within 120 s: is another apt running?") from error
    if result.returncode != 0:
        message = result.stderr.decode(errors="replace").strip()
        raise PrepareError(f"apt-cache dumpavail ended with {result.returncode}: {message}")
    return result.stdout.decode("utf-8", errors="replace")


def source_family(source: str) -> str:
    """ "gcc-12 (12.2.0-14)" -> "gcc". A name that is all digits stays as it is."""
    name = source.split(" ")[0]
    return re.sub(r"[-.0-9]+$", "", name) or name


def parse_index(text: str) -> Iterator[Record]:
    """Records of the chosen sections. Ubuntu writes "universe/games" for what Debian calls "games"."""
    for stanza in text.split("\n\n"):
        fields = dict(FIELD.findall(stanza))
        section = fields.get("Section", "").rpartition("/")[2]
        description = (fields.get("Description-en") or fields.get("Description", "")).strip()
        if section in SECTIONS and description and "Package" in fields:
            package = fields["Package"]
            yield Record(package, source_family(fields.get("Source") or package), description, section)


def without_twins(records: Iterator[Record]) -> list[Record]:
    """One record for each package, and for each description once case and digits are ignored; sorted by name."""
    packages: set[str] = set()
    descriptions: set[str] = set()
    kept = []
    for record in sorted(records, key=lambda r: (r.package, r.description, r.section, r.source)):
        shape = re.sub(r"[0-9]+", "", record.description.lower()).strip()
        if record.package not in packages and shape not in descriptions:
            kept.append(record)
            packages.add(record.package)
            descriptions.add(shape)
    return kept


def split(records: list[Record]) -> tuple[list[Record], list[Record]]:
    """(train, test). Every source package is wholly on one side; what a side does not need is left out."""
    shuffled = sorted(records, key=lambda r: hash_key(SEED, r.package))
    test = take_per_section(shuffled, TEST_PER_SECTION)
    test_sources = {record.source for record in test}
    rest = [record for record in shuffled if record.source not in test_sources]
    return take_per_section(rest, MAX_TRAIN_PER_SECTION), test


def take_per_section(records: list[Record], limit: int) -> list[Record]:
    taken = dict.fromkeys(SECTIONS, 0)
    result = []
    for record in records:
        if taken[record.section] < limit:
            taken[record.section] += 1
            result.append(record)
    return result


def check_index(records: list[Record]) -> None:
    """Refuses an index too small for the task, before anything is written."""
    if not records:
        raise PrepareError(
            "apt-cache dumpavail lists no package of the wanted sections: run apt-get update (as root) and try again"
        )
    counts = {section: sum(r.section == section for r in records) for section in sorted(SECTIONS)}
    few = [f"{name} has {count}" for name, count in counts.items() if count <= TEST_PER_SECTION]
    if few:
        raise PrepareError(
            f"too few packages to test on {TEST_PER_SECTION} in each section and train on the rest ({', '.join(few)}): "
            "run apt-get update; on Ubuntu the index must hold 'universe' too"
        )


def prepare(text: str, folder: Path) -> dict:
    records = without_twins(parse_index(text))
    check_index(records)
    train, test = split(records)
    source = {
        "command": "apt-cache dumpavail",
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "distinct_records": len(records),
        "seed": SEED,
    }
    splits = {"train": [r.as_json() for r in train], "test": [r.as_json() for r in test]}
    return write_record_set(folder, splits, "section", source)


def warn_about_few(summary: dict) -> None:
    counts = summary["files"]["train.jsonl"]["classes"]
    for section in sorted(SECTIONS):
        if counts.get(section, 0) < FEW_TRAIN_PER_SECTION:
            print(f"prepare.py: only {counts.get(section, 0)} training records in {section}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE / "records", help="folder to write to")
    options = parser.parse_args()
    try:
        summary = prepare(read_index(), options.output)
    except (PrepareError, OSError) as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 1
    print_counts(summary)
    warn_about_few(summary)
    print(f"-> {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
