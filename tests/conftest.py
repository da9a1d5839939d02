"""Shared by all Python tests: where the build is, and how to run its programs."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("DST_BUILD_DIR", ROOT / "build" / "release")).resolve()


def num_trials(short_form, long_form):
    """How often a test on random input repeats itself: more with DST_LONG_TESTS set (tests/run.sh --all)."""
    return long_form if "DST_LONG_TESTS" in os.environ else short_form


def run(command, timeout=300, check=True, **keywords):
    """Runs a program in the repository's root and returns what it printed."""
    result = subprocess.run(
        [str(part) for part in command], cwd=ROOT, capture_output=True, text=True, timeout=timeout, **keywords
    )
    if check:
        assert result.returncode == 0, f"{command} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}"
    return result


@pytest.fixture(scope="session")
def program():
    """Path of deepseek-train."""
    return BUILD / "bin" / "deepseek-train"


@pytest.fixture(scope="session")
def smollm2():
    """The real small model, linked by cmake/bootstrap.sh."""
    return ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
