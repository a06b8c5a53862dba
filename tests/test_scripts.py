"""``scripts/test``: the options with which it runs pytest."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "scripts" / "test"
TESTS = """
import os, pytest

@pytest.mark.parametrize("number", range(40))
def test_one(number):
    if number == 25:
        os._exit(1)
"""


def options() -> list[str]:
    """What the script gives to pytest before its own arguments."""
    command = next(line for line in SCRIPT.read_text().splitlines() if line.startswith("exec "))
    return [word for word in shlex.split(command.partition("-m pytest ")[2]) if word != "$@"]


def test_a_worker_that_dies_fails_the_run_and_ends_it(tmp_path: Path) -> None:
    """In the middle of the tests: those it has done before are what a replaced worker would wait for."""
    (tmp_path / "test_dies.py").write_text(TESTS)
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options(), str(tmp_path)]
    run = subprocess.run(words, cwd=tmp_path, env=outside, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert "1 failed" in run.stdout.splitlines()[-1]
