"""cmake/bootstrap.sh: one set-up at a time in a checkout."""

import fcntl
import subprocess

from tests.conftest import ROOT


def test_a_second_set_up_says_that_it_waits_and_goes_on():
    with open(ROOT / "build" / ".set-up.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(
            ["cmake/bootstrap.sh", "--no-build"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            assert "another set-up" in second.stdout.readline()
            assert second.poll() is None
            fcntl.flock(lock, fcntl.LOCK_UN)
            rest, _ = second.communicate(timeout=60)
            assert second.returncode == 0, rest
        finally:
            second.kill()
