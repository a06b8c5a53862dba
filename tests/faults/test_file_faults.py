"""The disk fails: EIO, ENOSPC and EDQUOT at every file operation, short writes, a size limit, a full file system.

The call ends with 74 or 73, a Store whose journal failed says that it is closed, a failed sync is never repeated,
nothing acknowledged is lost, and it works again once there is room.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from anthill_sync import Store, durable
from anthill_sync.errors import AnthillError, RewriteFailed, StoreClosed
from tests.cli_tools import Shell

from .conftest import Begin
from .disk import FailingDisk, ShortWrites, failing
from .points import Point, every
from .scenarios import ONE_THREAD, PAD, SCENARIOS, SMALL, Scenario, noise
from .scenarios import run as run_act
from .test_crash_points import Prepare, content, copy, prepared

__all__ = ["prepared"]

SHORT = 18  # faults in each scenario
CODES = {errno.EIO: 74, errno.ENOSPC: 73, errno.EDQUOT: 73}
HARMLESS = ("lock", "idle")  # who holds the lock is for people; without "idle" the next writer checkpoints first
LEFT = "old names or data are left on"  # what an earlier run could not rewrite; a failure there is no failure of a put


@contextmanager
def warnings() -> Iterator[list[str]]:
    """What is logged meanwhile."""
    found: list[str] = []
    handler, logger = logging.Handler(logging.WARNING), logging.getLogger("anthill_sync")
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def attempt(home: Path, scenario: Scenario, disk: FailingDisk) -> AnthillError | None:
    """The act; what it raised. Then the same Store: it works, or is closed."""
    with Store.open(home, settings=ONE_THREAD) as store:
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
        elif disk.hit is not None:
            store.put("after", SMALL)
            del store["after"]
        return error


def fails_well(home: Path, scenario: Scenario, disk: FailingDisk) -> bool:
    """The act fails with the error's code; then it goes through, as there is room again. False: no such operation came."""
    with warnings() as warned:
        error = attempt(home, scenario, disk)
    if disk.hit is None:
        return False
    if error is None:
        told = any(LEFT in line and os.strerror(disk.number) in line for line in warned)
        assert told or any(word in disk.hit.kind for word in HARMLESS), "nobody noticed"
    else:
        assert error.exit_code == CODES[disk.number] or isinstance(error, RewriteFailed), repr(error)
    scenario.assert_allowed(content(home))
    with Store.open(home, settings=ONE_THREAD) as store:
        scenario.act(store)
    assert content(home) == scenario.aim
    assert not disk.repeated, "a sync that had failed was asked for again"
    return True


def faults_of(files: list[Point]) -> list[tuple[str, int, int]]:
    """(name of the operation, which of them, error) for every file operation and every error it may have."""
    points = every(files)
    return [(name, at, number) for name, at in points for number in CODES if number == errno.EIO or not name.startswith("read")]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_failing_file_operation_ends_the_call_with_its_code_and_loses_nothing(
    scenario: Scenario, prepared: Prepare, tmp_path: Path, campaign: Begin
) -> None:
    template, home = prepared(scenario, 1).template, tmp_path / "home"
    with failing() as whole:
        run_act(copy(template, home), scenario.act)
    faults = faults_of(whole.files)
    with campaign("file errors", scenario.name, short=SHORT, long=len(faults)) as run:
        for name, at, number in run.random("faults").sample(faults, run.goal):
            with run.case(f"{errno.errorcode[number]} at {name}", f"number {at}"):
                assert any(failed_well(copy(template, home), scenario, name, each, number) for each in (at, 1)), "it never came"


def failed_well(home: Path, scenario: Scenario, name: str, at: int, number: int) -> bool:
    with failing(name, at, number) as disk:
        return fails_well(home, scenario, disk)


def test_short_writes_are_continued(tmp_path: Path, campaign: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """All writes of every scenario are short, by another length each time."""
    template, home = tmp_path / "template", tmp_path / "home"
    with campaign("file errors", "short writes", short=len(SCENARIOS), long=10 * len(SCENARIOS)) as run:
        for number in range(run.goal):
            scenario = SCENARIOS[number % len(SCENARIOS)]
            with run.case("every write is short", scenario.name), monkeypatch.context() as patch:
                most = run.random(number).randint(1, 2000)
                patch.setattr(durable, "os", ShortWrites(most))
                make(template, scenario)
                copy(template, home)
                run_act(home, scenario.act)
                assert content(home) == scenario.aim
                assert durable.os.cut > 10  # type: ignore[attr-defined]


def make(template: Path, scenario: Scenario) -> None:
    """A new home, ready for the scenario's act."""
    subprocess.run(["rm", "-rf", template], check=True)
    Store.create(template, pad_size=PAD).close()
    run_act(template, lambda store: [store.put(key, value) for key, value in scenario.start.items()])
    run_act(template, lambda store: scenario.prepare(store, template))


# -- no room at all


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
            os.write(told.fileno(), b"%d\n" % number)
    return 0


def assert_works_with_room(home: Path, size: int) -> None:
    """Everything acknowledged is there, and more can be put."""
    numbers = (home.parent / "acknowledged").read_text().split()
    found = content(home)
    for number in numbers:
        assert found[f"fill/{number}"] == noise(f"fill {number}", size)
    with Store.open(home) as store:
        store.put("after", SMALL)
        assert store["after"] == SMALL


def test_a_file_size_limit_is_no_room_and_loses_nothing(tmp_path: Path, campaign: Begin) -> None:
    """It stops the journal, the snapshot or a pad, whichever grows beyond it first."""
    with campaign("file errors", "a limit of the size of files", short=6, long=60) as run:
        for number in range(run.goal):
            chance, home = run.random(number), tmp_path / str(number) / "home"
            limit, size = chance.randint(3000, 40000), chance.randint(100, 40000)
            with run.case("RLIMIT_FSIZE", f"{limit} bytes, values of {size}"):
                home.parent.mkdir()
                Store.create(home, pad_size=PAD).close()
                assert in_child(partial(limited, home, limit, size)) == 73
                assert_works_with_room(home, size)


def limited(home: Path, limit: int, size: int) -> int:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    return fill_up(home, size)


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes; skipped where nobody may mount one."""
    place.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "full", str(place)]
    mounted = subprocess.run(options, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_full_file_system_is_no_room_and_loses_nothing(tmp_path: Path, campaign: Begin) -> None:
    with campaign("file errors", "a small file system, really full", short=4, long=40) as run:
        for number in range(run.goal):
            chance = run.random(number)
            room, size = chance.randint(150, 500) * 1024, chance.randint(300, 40000)
            with small_disk(tmp_path / str(number), room) as disk, run.case("full tmpfs", f"{room} bytes, values of {size}"):
                assert_full(disk, size)


def assert_full(disk: Path, size: int) -> None:
    """Full: what is there can be read and proved. With room: what could not be put can."""
    home, large, shell = disk / "home", disk.parent / "large", Shell(disk / "home")
    Store.create(home, pad_size=PAD).close()
    assert in_child(partial(fill_up, home, size)) == 73
    large.write_bytes(noise("large", 50 * PAD))
    assert shell.run("put", "large", large).code == 73
    assert shell.run("check", "--read-data").code == 0
    assert shell.run("get", "fill/0").data == noise("fill 0", size)
    subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
    assert_works_with_room(home, size)
    assert shell.run("put", "large", large).code == 0
