"""examples/routing/prepare.py on made-up package indexes: the rules of the split, Ubuntu's spelling, bad input."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "routing"
SECTIONS = "database doc editors electronics fonts games graphics mail science sound video web".split()


def stanza(package, section, description, source=None, field="Description"):
    lines = [f"Package: {package}"] + ([f"Source: {source}"] if source else [])
    return "\n".join(
        [*lines, f"{field}: {description}", " A longer text.", f"Section: {section}", "Priority: optional"]
    )


def letters(number):
    """A word without digits, since digits do not make descriptions different."""
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


def index(per_section=60):
    return [
        stanza(f"{section}-{letters(i)}", section, f"Tool {letters(i)} for {section}")
        for section in SECTIONS
        for i in range(per_section)
    ]


@pytest.fixture
def prepare(tmp_path):
    """Runs prepare.py with an apt-cache of ours in front of the PATH; returns (result, train, test)."""

    def run(stanzas, script="cat {}", folder="records"):
        (tmp_path / "index").write_text("\n\n".join(stanzas) + "\n", encoding="utf-8")
        (tmp_path / "bin").mkdir(exist_ok=True)
        command = tmp_path / "bin" / "apt-cache"
        command.write_text('#!/bin/sh\n[ "$1" = dumpavail ] || exit 9\n' + script.format(tmp_path / "index") + "\n")
        command.chmod(0o755)
        result = subprocess.run(
            [sys.executable, EXAMPLE / "prepare.py", "--output", tmp_path / folder],
            env={**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return result, read(tmp_path / folder / "train.jsonl"), read(tmp_path / folder / "test.jsonl")

    return run


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_counts_and_fields(prepare):
    result, train, test = prepare(index(per_section=400))
    assert result.returncode == 0, result.stderr
    for section in SECTIONS:
        assert sum(r["section"] == section for r in test) == 50
        assert sum(r["section"] == section for r in train) == 250
    assert all(list(r) == ["package", "description", "section"] for r in train + test)
    assert not {r["package"] for r in train} & {r["package"] for r in test}


def test_same_bytes_for_the_same_index_in_any_order(prepare, tmp_path):
    prepare(index(), folder="one")
    prepare(index()[::-1], folder="two")
    for name in ("train.jsonl", "test.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_ubuntu_sections_and_translated_descriptions(prepare):
    stanzas = index(per_section=30) + [
        stanza(
            f"u-{section}-{letters(i)}", f"universe/{section}", f"Ubuntu {letters(i)} {section}", field="Description-en"
        )
        for section in SECTIONS
        for i in range(40)
    ]
    result, train, test = prepare(stanzas)
    assert result.returncode == 0, result.stderr
    assert {r["section"] for r in train + test} == set(SECTIONS)
    assert any(r["description"].startswith("Ubuntu ") for r in test)


def test_a_source_package_is_on_one_side_only(prepare):
    # Families of five packages whose sources differ in their version suffix alone.
    family = {}
    stanzas = []
    for section in SECTIONS:
        for i in range(400):
            package = f"{section}-part-{letters(i)}"
            family[package] = f"{section}-{letters(i // 5)}"
            source = f"{family[package]}{['', '-12', '3.1', '-2.0', '9'][i % 5]} (1.2-3)"
            stanzas.append(stanza(package, section, f"Part {letters(i)} of {section}", source))
    result, train, test = prepare(stanzas)
    assert result.returncode == 0, result.stderr
    assert len(test) == 600
    assert train
    assert not {family[r["package"]] for r in train} & {family[r["package"]] for r in test}


def test_twins_by_case_and_digits_are_dropped(prepare):
    twins = [stanza(f"twin-{letters(i)}", "games", f"{'PUZZLE' if i % 2 else 'Puzzle'} number {i}") for i in range(30)]
    result, train, test = prepare(index(per_section=200) + twins)
    assert result.returncode == 0, result.stderr
    assert sum("number" in r["description"] for r in train + test) <= 1


def test_other_sections_are_left_out(prepare):
    result, train, test = prepare([*index(), stanza("libc6", "libs", "C library"), stanza("odd", "gamesx", "Odd one")])
    assert result.returncode == 0, result.stderr
    assert {r["section"] for r in train + test} == set(SECTIONS)


def test_few_training_records_are_told(prepare):
    result, _, _ = prepare(index(per_section=60))
    assert "only 10 training records in video" in result.stderr


@pytest.mark.parametrize(
    ("stanzas", "script", "message"),
    [
        ([], "cat {}", "run apt-get update"),
        ([s for s in index() if "Section: video" not in s], "cat {}", "video has 0"),
        (index(per_section=50), "cat {}", "database has 50"),
        (index(), "echo 'E: broken list' >&2; exit 100", "ended with 100: E: broken list"),
    ],
    ids=["no lists", "missing section", "nothing left to train on", "apt-cache fails"],
)
def test_bad_index_is_one_error_and_writes_nothing(prepare, tmp_path, stanzas, script, message):
    result, _, _ = prepare(stanzas, script)
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "records").exists()


def test_summary_names_counts_and_hashes(prepare, tmp_path):
    prepare(index())
    summary = json.loads((tmp_path / "records" / "summary.json").read_text())
    for name, file in summary["files"].items():
        assert file["sha256"] == hashlib.sha256((tmp_path / "records" / name).read_bytes()).hexdigest()
    assert summary["files"]["test.jsonl"]["classes"]["web"] == 50
    assert sorted(p.name for p in (tmp_path / "records").iterdir()) == ["summary.json", "test.jsonl", "train.jsonl"]
