"""Odd surroundings: clocks years away, no home directory, a file system that is read-only, closed streams.

Each command works or says why not, with the right exit code, and nothing is half-written.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NoReturn

import pytest

from anthill_sync import Store, cli
from tests.cli_tools import PROGRAM, ROOT, Shell

from .commands import CASES, Case, assert_whole, place, template, words_of
from .scenarios import LARGE, OLD, PAD, SCENARIOS, SMALL, Scenario
from .scenarios import run as run_act
from .test_crash_points import Prepare, content, copy, prepared
from .test_file_faults import in_child

__all__ = ["place", "prepared", "template"]

YEAR = 365 * 24 * 3600


# -- the clock


class Clock:
    """Wall time that jumps by years, forward and back, whenever it is asked."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    def time(self) -> float:
        return self._chance.choice([-1.0e9, 0.0, 1.0, 2.0**31, 2.0**32, 4.0e9, 9.0e9]) + self._chance.random() * YEAR

    def time_ns(self) -> int:
        return int(self.time() * 1e9)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_clock_that_jumps_by_years_changes_nothing(
    scenario: Scenario, prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template, clock = prepared(scenario, 1).template, Clock(Random(scenario.name))
    monkeypatch.setattr(time, "time", clock.time)
    monkeypatch.setattr(time, "time_ns", clock.time_ns)
    home = copy(template, tmp_path / "home")
    run_act(home, scenario.act, upload_threads=8, reserve_threads=8)
    assert content(home) == scenario.aim
    for command in (["ls", "-l"], ["ls", "--json"], ["usage"], ["check", "--read-data"], ["resume"], ["put", "last", __file__]):
        assert Shell(home)(*command).code == 0, command


@pytest.mark.parametrize("seconds", [10**10, 10**12, -(10**11)])
def test_a_clock_beyond_all_calendars_is_put_and_shown(seconds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: seconds)
    monkeypatch.setattr(time, "time_ns", lambda: seconds * 10**9)
    home = tmp_path / "home"
    with Store.create(home, pad_size=PAD) as store:
        store.put("k", LARGE)
        store.put("k", SMALL)
        store.rename("k", "l")
    assert content(home) == {"l": SMALL}
    for command in (["ls", "-l"], ["ls", "--json"], ["stat", "l"], ["stat", "l", "--json"], ["get", "l", tmp_path / "out"]):
        assert Shell(home)(*command).code == 0, command


# -- no home directory


def test_without_a_home_directory_a_store_that_is_named_works(tmp_path: Path) -> None:
    for command in (
        ["init", "--pad-size", "16KiB"],
        ["put", "k", __file__],
        ["get", "k", tmp_path / "out"],
        ["check", "--read-data"],
    ):
        words = [*PROGRAM, "--home", tmp_path / "home", *command]
        done = subprocess.run(
            words, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}, cwd="/", capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["ls", "init", "serve"])
def test_a_user_without_a_home_directory_is_told_how_to_name_one(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown(user: int) -> NoReturn:
        raise KeyError(user)

    for name in ("HOME", "XDG_DATA_HOME", "ANTHILL_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.chdir(tmp_path)
    assert cli.main([command]) == 78
    assert ("--data" if command == "serve" else "$ANTHILL_HOME") in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# -- closed streams


def test_every_command_is_among_the_cases() -> None:
    """But ``serve``, which ends when it is told to."""
    assert set(cli.app.declared) - {"serve"} <= {case.words.split()[0] for case in CASES}


def command_without(descriptors: tuple[int, ...], words: list[str]) -> int:
    """The command as it is started by a parent that has closed these of its standard streams."""

    def action() -> int:
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            if number in descriptors:
                os.close(number)
                setattr(sys, name, None)
            else:
                nowhere = os.open(os.devnull, os.O_RDWR)
                os.dup2(nowhere, number)
                setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115
        os.open = never_as_a_stream(os.open)
        return cli.main(words)

    return in_child(action)


def never_as_a_stream(real: Callable[..., int]) -> Callable[..., int]:
    """``os.open``; a file of ours that gets the number of a standard stream ends the process: whatever a library writes
    there would go into the file."""

    def opened(path: Any, *more: Any, **named: Any) -> int:
        fd = real(path, *more, **named)
        if fd <= 2 and path != os.devnull:
            os._exit(98)
        return fd

    return opened


@pytest.mark.parametrize("descriptors", [(0,), (1,), (2,), (0, 1, 2)], ids=["stdin", "stdout", "stderr", "all"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.words)
def test_a_closed_standard_stream_is_an_error_or_does_no_harm(case: Case, descriptors: tuple[int, ...], place: Path) -> None:
    code = command_without(descriptors, words_of(case, place))
    assert code == (case.silent if 1 in descriptors or case.silent not in (74,) else 0)
    assert_whole(place)


def test_a_value_from_a_closed_standard_input_is_refused(place: Path) -> None:
    assert command_without((0,), ["--home", str(place / "home"), "put", "k", "-"]) == 66
    assert content(place / "home")["k"] == OLD


# -- where nothing may be written


@pytest.fixture
def read_only(template: Path, tmp_path: Path) -> Iterator[Path]:
    """The place, on a file system that is mounted read-only, and beside it a folder to write to."""
    place = tmp_path / "read-only"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "x", place], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"cannot mount here: {made.stderr.decode().strip()}")
    try:
        shutil.copytree(template, place, dirs_exist_ok=True)
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_on_a_read_only_file_system_everything_can_be_read_and_nothing_changed(read_only: Path, tmp_path: Path) -> None:
    (tmp_path / "writable").mkdir()
    before = {path: path.read_bytes() for path in read_only.rglob("*") if path.is_file()}
    for case in CASES:
        words = [word.replace(f"{read_only}/out", f"{tmp_path}/writable/out") for word in words_of(case, read_only)]
        words = [word.replace(f"{read_only}/tree-out", f"{tmp_path}/writable/tree-out") for word in words]
        result = Shell(read_only / "home")(*words[2:])
        assert result.code in case.read_only, (case.words, result)
        shutil.rmtree(tmp_path / "writable")
        (tmp_path / "writable").mkdir()
    assert Shell(read_only / "home")("get", "k", read_only / "out").code == 73
    assert {path: path.read_bytes() for path in read_only.rglob("*") if path.is_file()} == before
