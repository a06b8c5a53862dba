"""P4 at random: 8 processes on one store, readers beside a writer that reuses space, processes stopped for a while."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random

import pytest

from anthill_sync import Store
from anthill_sync.errors import StoreLocked, ValueChanged

from .conftest import Begin
from .racing import FEW, Racer, exit_code, forked, gets_on, number_of, paused, read, text, wait_for_threads
from .scenarios import CHUNK, PAD
from .test_crash_points import content

PROCESSES = 8
STEPS = 10  # mutations and looks of each process
PUTS = 12  # of a writer beside readers
READERS = 2
WRITER_STOPS = (
    "write_all journal|torn",
    "sync journal|after",
    "network.write|before",
    "rename pad|after",
    "record publish|after",
)


def fresh(tmp_path: Path, number: int) -> Path:
    home = tmp_path / str(number) / "home"
    home.parent.mkdir()
    Store.create(home, pad_size=PAD).close()
    return home


# -- many processes


def test_many_processes_change_one_store_and_nothing_is_damaged(tmp_path: Path, campaign: Begin) -> None:
    others = set(threading.enumerate())
    with campaign("races", "8 processes", short=20, long=200) as run:
        for number in range(run.goal):
            with run.case("random mutations by 8 processes", number):
                home = fresh(tmp_path, number)
                racers = [Racer(home, racer, run.random(number, racer)) for racer in range(PROCESSES)]
                wait_for_threads(others)
                pids = [forked(partial(racer.run, STEPS)) for racer in racers]
                assert [exit_code(pid) for pid in pids] == [0] * PROCESSES
                assert_as_acknowledged(home)


def assert_as_acknowledged(home: Path) -> None:
    """Everybody's own keys as that process left them, each shared key as its highest version."""
    expected: dict[str, bytes] = {}
    newest: dict[str, tuple[int, int]] = {}
    for racer in range(PROCESSES):
        told = json.loads(Racer.report_path(home, racer).read_text())
        expected.update({key: bytes.fromhex(value) for key, value in told["own"].items()})
        for version, key, number in told["shared"]:
            newest[key] = max(newest.get(key, (0, 0)), (version, number))
    found = content(home)
    assert {key: number_of(key, found.pop(key)) for key in newest} == {key: number for key, (_, number) in newest.items()}
    assert found == expected


# -- readers


def test_readers_beside_overwrites_and_reused_space_see_old_or_new_and_never_go_back(tmp_path: Path, campaign: Begin) -> None:
    with campaign("races", "readers beside a writer", short=10, long=100) as run:
        for number in range(run.goal):
            with run.case("a reader during overwrite and reuse", number):
                race_readers(fresh(tmp_path, number), run.random(number))


def race_readers(home: Path, chance: Random) -> None:
    with Store.open(home, settings=FEW) as store:
        store.put("k", text("k", 1, 2 * CHUNK))
    with reading(home), Store.open(home, settings=FEW) as store:
        for number in range(2, PUTS):
            store.put("k", text("k", number, chance.randrange(4 * CHUNK)))
            store.put("other", text("other", number, chance.randrange(2 * CHUNK)))
            if chance.random() < 0.3:
                store.delete("other")
                store.trim()
    assert number_of("k", content(home)["k"]) == PUTS - 1


@contextmanager
def reading(home: Path) -> Iterator[None]:
    """Processes that read all the time, and fail when they see what never was, or go back."""
    end, tell = os.pipe()

    def look() -> None:
        os.close(tell)
        os.set_blocking(end, False)
        last = 0
        with Store.open(home, read_only=True, settings=FEW) as store:
            while still_open(end):
                gets_on()
                found = read(store, "k")
                assert found == 0 or found >= last, f"{found} after {last}"
                last = max(last, found)
                read(store, "other")

    pids = [forked(look) for _ in range(READERS)]
    os.close(end)
    try:
        yield
    finally:
        os.close(tell)
        assert [exit_code(pid) for pid in pids] == [0] * READERS


def still_open(end: int) -> bool:
    try:
        return os.read(end, 1) != b""
    except BlockingIOError:
        return True


# -- stopped for a while


def test_a_writer_that_is_stopped_for_a_while_keeps_the_lock_and_goes_on(tmp_path: Path, campaign: Begin) -> None:
    """Another writer is told (75), readers see old or new, and when it is continued it finishes."""
    with campaign("races", "a writer is stopped", short=5, long=50) as run:
        for number in range(run.goal):
            name = WRITER_STOPS[number % len(WRITER_STOPS)]
            with run.case(f"SIGSTOP at {name}", number):
                stop_writer(fresh(tmp_path, number), name, run.random(number))


def stop_writer(home: Path, name: str, chance: Random) -> None:
    old, new = text("k", 1, 3 * CHUNK), text("k", 2, 4 * CHUNK)
    with Store.open(home, settings=FEW) as store:
        store.put("k", old)

    def write() -> None:
        with Store.open(home, settings=FEW) as store:
            store.put("k", new)

    pid = paused(write, name, 1 if name.startswith("record") else chance.randint(1, 4))
    with Store.open(home, settings=FEW) as store:
        with pytest.raises(StoreLocked, match=f"pid {pid}"):
            store.put("l", b"x")
        assert store["k"] in (old, new)
        os.kill(pid, signal.SIGCONT)
        assert exit_code(pid) == 0
        assert store["k"] == new
        store.put("l", b"x")
    assert content(home) == {"k": new, "l": b"x"}


def test_a_reader_that_is_stopped_while_its_space_is_reused_reads_old_or_new(tmp_path: Path, campaign: Begin) -> None:
    with campaign("races", "a reader is stopped", short=5, long=50) as run:
        for number in range(run.goal):
            with run.case("SIGSTOP in the middle of a get", number):
                stop_reader(fresh(tmp_path, number), run.random(number))


def stop_reader(home: Path, chance: Random) -> None:
    values = [text("k", number, chance.randrange(2 * CHUNK, 5 * CHUNK)) for number in range(1, 5)]
    with Store.open(home, settings=FEW) as store:
        store.put("k", values[0])

    def look() -> None:
        with Store.open(home, read_only=True, settings=FEW) as store:
            try:
                assert store["k"] in (values[0], values[-1])
            except ValueChanged:
                return

    pid = paused(look, "network.read|before", chance.randint(1, 2))
    with Store.open(home, settings=FEW) as store:
        for value in values[1:]:
            store.put("k", value)
        store.trim()
    os.kill(pid, signal.SIGCONT)
    assert exit_code(pid) == 0
    assert content(home) == {"k": values[-1]}
