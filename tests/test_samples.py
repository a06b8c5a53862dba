"""Programs that use the package are checked by ``mypy --strict``, and do what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SAMPLE = Path(__file__).parent / "samples" / "nightly.py"
ROOT = Path(__file__).resolve().parent.parent


def test_a_program_that_uses_every_kind_of_call_is_strictly_typed(tmp_path: Path) -> None:
    checked = mypy(SAMPLE, tmp_path)
    assert (checked.stdout.splitlines()[-1:], checked.returncode) == (["Success: no issues found in 1 source file"], 0)


def test_a_wrong_use_is_found(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text('from anthill_sync import Store\n\nsize: str = Store.open().put("k", 7).size\n')
    assert mypy(wrong, tmp_path).stdout.count("error:") == 2  # 7 is no source, and a size is no text


def test_it_runs(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_bytes(b"1")
    done = subprocess.run(
        [sys.executable, SAMPLE, tmp_path / "home", tmp_path / "folder"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0)


def mypy(program: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Outside the checkout, as a user would: the package itself is found as an installed one."""
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache / "cache"), "--config-file", "", str(program)]
    return subprocess.run(command, cwd=cache, env={"MYPYPATH": str(ROOT)}, capture_output=True, text=True, check=False)
