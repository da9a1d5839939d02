"""The baseline scripts on records whose answer is known."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(example, label, tmp_path, train, test):
    for name, rows in (("train", train), ("test", test)):
        lines = [json.dumps({"description": text, label: answer}) for text, answer in rows]
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return subprocess.run(
        [sys.executable, EXAMPLES / example / "baseline.py", "--records", tmp_path, "--output", tmp_path / "out.json"],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(("example", "label"), [("routing", "section"), ("logistics", "label")])
def test_separable_records_and_known_majority(tmp_path, example, label):
    train = [("red apple", "fruit")] * 6 + [("green bean", "vegetable")] * 4
    test = [("apple pie", "fruit"), ("bean soup", "vegetable"), ("one bean", "vegetable"), ("a bean", "fruit")]
    result = run(example, label, tmp_path, train, test)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "out.json").read_text()) == {
        "majority": 0.5,
        "logistic_regression": 0.75,
        "num_test": 4,
    }


def test_missing_field_names_file_and_line(tmp_path):
    result = run("routing", "other", tmp_path, [("a", "b")], [("a", "b")])
    assert result.returncode == 1
    assert "train.jsonl:1: no field section" in result.stderr
    assert not (tmp_path / "out.json").exists()


def test_absent_records_say_what_to_run(tmp_path):
    result = subprocess.run(
        [sys.executable, EXAMPLES / "routing" / "baseline.py", "--records", tmp_path / "none"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 1
    assert "run prepare.py first" in result.stderr
