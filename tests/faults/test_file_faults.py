"""The disk fails: EIO and ENOSPC at every durable call of a put, short writes, a size limit, a full file system.

The put ends with 74 or 73, a Store whose journal failed says that it is closed, nothing acknowledged is lost, and a new
Store works.
"""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import Store, durable
from anthill_sync.errors import AnthillError, StoreClosed

from .points import Point, Points, installed
from .scenarios import CHUNK, LARGE, ONE_THREAD, PAD, SCENARIOS, SMALL, Scenario, noise
from .test_crash_points import Prepare, content, copy, prepared, spread

__all__ = ["prepared"]

SHORT = 50
NAMES = ("put chunks", "overwrite", "remove", "rename", "checkpoint")
CODES = {errno.EIO: 74, errno.ENOSPC: 73}


class Faults(Points):
    """At the N-th point that is a file operation (all three phases count) the operating system reports ``number``."""

    def __init__(self, at: int, number: int) -> None:
        super().__init__()
        self._fault, self._number, self._files = at, number, 0

    def _reach(self, point: Point, prepare: Callable[[], object] | None = None) -> None:
        if point.kind.startswith("network."):
            return
        with self._lock:
            self._files += 1
            if self._files != self._fault:
                return
            self.hit = point
            if prepare is not None:
                prepare()
        raise OSError(self._number, os.strerror(self._number))


def attempt(home: Path, scenario: Scenario, faults: Faults) -> AnthillError | None:
    """The act with the fault; what it raised. Then the same Store: it works, or is closed."""
    with installed(faults), Store.open(home, settings=ONE_THREAD) as store:
        error = None
        try:
            scenario.act(store)
        except AnthillError as raised:
            error = raised
        if store._session.journal.failure is not None:
            with pytest.raises(StoreClosed):
                store.put("after", SMALL)
            with pytest.raises(StoreClosed):
                store.get("after")
        else:
            store.put("after", SMALL)
            del store["after"]
        return error


@pytest.mark.parametrize("number", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", NAMES)
def test_a_failing_file_operation_ends_the_call_with_its_code_and_loses_nothing(
    name: str, number: int, prepared: Prepare, tmp_path: Path, long_run: bool
) -> None:
    scenario = next(each for each in SCENARIOS if each.name == name)
    whole = prepared(scenario, 1)
    count = sum(not point.kind.startswith("network.") for point in whole.points)
    codes: Counter[int] = Counter()
    for at in spread(count, count if long_run else SHORT):
        home, faults = copy(whole.template, tmp_path / "home"), Faults(at, number)
        try:
            error = attempt(home, scenario, faults)
            codes[0 if error is None else error.exit_code] += 1
            assert error is None or error.exit_code in (CODES[number], 75), error
            scenario.assert_allowed(content(home))
            with Store.open(home, settings=ONE_THREAD) as store:
                scenario.act(store)
            assert content(home) == scenario.aim
        except Exception as failure:
            raise AssertionError(f"at file operation {at} of {count}, {faults.hit}") from failure
    assert codes[CODES[number]] > codes[0], "the faults were not noticed"


class ShortWrites:
    """``os`` as ``durable`` sees it, on a system that never writes more than a few bytes at once."""

    def write(self, fd: int, data: memoryview) -> int:
        return os.write(fd, data[:1000])

    def pwrite(self, fd: int, data: memoryview, offset: int) -> int:
        return os.pwrite(fd, data[:7], offset)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "os", ShortWrites())
    with Store.create(tmp_path / "home", pad_size=PAD) as store:
        store.put("k", LARGE)
        store.put("l", SMALL)
    assert content(tmp_path / "home") == {"k": LARGE, "l": SMALL}


def in_child(action: Callable[[], int]) -> int:
    """The exit code of ``action`` in a process of its own."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = action()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fill_up(home: Path, size: int) -> int:
    """Put until it fails; the exit code. What was acknowledged is written beside the home."""
    with Store.open(home) as store, (home.parent / "acknowledged").open("w") as told:
        for number in range(5000):
            try:
                store.put(f"fill/{number}", noise(f"fill {number}", size))
            except AnthillError as error:
                return error.exit_code
            told.write(f"{number}\n")
            told.flush()
    return 0


def assert_all_acknowledged(home: Path, size: int) -> None:
    numbers = (home.parent / "acknowledged").read_text().split()
    assert numbers
    found = content(home)
    for number in numbers:
        assert found[f"fill/{number}"] == noise(f"fill {number}", size)


def test_a_file_size_limit_that_stops_the_journal_is_no_room_and_loses_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    Store.create(home, pad_size=PAD).close()

    def limited() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20 * 1024, resource.RLIM_INFINITY))
        return fill_up(home, 300)

    assert in_child(limited) == 73
    assert_all_acknowledged(home, 300)
    with Store.open(home) as store:
        store.put("after", SMALL)
        assert store["after"] == SMALL


def test_a_full_file_system_is_no_room_and_loses_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "full", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    try:
        home = disk / "home"
        Store.create(home, network=f"dir:{home}/pads", pad_size=PAD).close()
        assert in_child(lambda: fill_up(home, 2 * CHUNK)) == 73
        assert_all_acknowledged(home, 2 * CHUNK)
    finally:
        subprocess.run(["umount", disk], check=True)
