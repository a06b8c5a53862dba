"""Processes on one store: what each of them does, and values that tell whether they are whole."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import threading
import traceback
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from anthill_sync import Store, lock
from anthill_sync.errors import KeyNotFound, PadLimitExceeded, ValueChanged
from tests.support import PATIENCE

from .points import Point, Points, installed
from .scenarios import CHUNK, noise

FEW = {"reserve_threads": 2, "upload_threads": 2, "download_threads": 2}
SHARED = 3  # keys that all processes write


def forked(action: Callable[[], object]) -> int:
    """Start ``action`` in a process of its own; its pid. It ends with 0 when the action returns. One that hangs says where."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            gets_on()
            vars(lock)["POLL_SECONDS"] = 0.002  # so that they meet more often
            action()
            code = 0
        except BaseException:  # noqa: BLE001 - told to the test's own thread
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def gets_on() -> None:
    """This process does not hang; each of its steps says so. The stacks of one that hangs are shown, then it is ended. Those
    of one that works must not be: they are read while they change, which mostly crashes the interpreter."""
    signal.alarm(2 * int(PATIENCE))
    faulthandler.dump_traceback_later(PATIENCE * 3 / 4, file=2)


def wait_for_threads(others: Container[threading.Thread]) -> None:
    """Before a fork, where every Store of this test was closed: a lock that an ending thread holds at a fork is held in the
    child for ever, those of the libraries below Python too. ``others``: idle ones, of tests before this one."""
    for thread in threading.enumerate():
        if thread.name.startswith("anthill-") and thread not in others:
            thread.join(PATIENCE)


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def text(key: str, number: int, size: int) -> bytes:
    """A value that names itself, of ``size`` bytes and its own name."""
    name = f"{key} {number} {size}\n"
    return name.encode() + noise(name, size)


def number_of(key: str, value: bytes) -> int:
    """The number of a value, which must be a whole one of this key."""
    name, number, size = value.partition(b"\n")[0].decode().rsplit(" ", 2)
    assert name == key, f"{key} has a value of {name}"
    assert value == text(key, int(number), int(size)), f"{key} is damaged"
    return int(number)


@dataclass
class Racer:
    """One of several processes: changes keys of its own and shared ones, at random."""

    home: Path
    number: int
    chance: Random
    own: dict[str, bytes] = field(default_factory=dict)  # as acknowledged
    shared: list[tuple[int, str, int]] = field(default_factory=list)  # (version, key, number) of each acknowledged put
    _count: int = 0

    def run(self, steps: int) -> None:
        """Do it, and leave beside the home what was acknowledged."""
        acts = (
            self.put,
            self.put,
            self.put_many,
            self.remove,
            self.rename,
            self.put_shared,
            self.put_shared,
            self.fail,
            self.look,
        )
        with Store.open(self.home, lock_wait=PATIENCE, settings=FEW) as store:
            for _ in range(steps):
                gets_on()
                self.chance.choice(acts)(store)
                if self.chance.random() < 0.1:
                    store.trim()
        told = {"own": {key: value.hex() for key, value in self.own.items()}, "shared": self.shared}
        self.report_path(self.home, self.number).write_text(json.dumps(told))

    @staticmethod
    def report_path(home: Path, number: int) -> Path:
        return home.parent / f"racer-{number}"

    def _new(self, key: str) -> bytes:
        self._count += 1
        return text(key, self.number * 1000 + self._count, self.chance.choice([60, 900, 3000, CHUNK, 2 * CHUNK + 700]))

    def _key(self) -> str:
        return f"own/{self.number}/{self.chance.randrange(4)}"

    def put(self, store: Store) -> None:
        key = self._key()
        value = self._new(key)
        store.put(key, value)
        self.own[key] = value

    def put_many(self, store: Store) -> None:
        values = {key: self._new(key) for key in {self._key(), self._key()}}
        store.put_many(values)
        self.own.update(values)

    def remove(self, store: Store) -> None:
        key = self._key()
        store.delete(key, ignore_missing=True)
        self.own.pop(key, None)

    def rename(self, store: Store) -> None:
        old, new = self._key(), f"moved/{self.number}"
        if old in self.own:
            store.rename(old, new, force=True)
            self.own[new] = self.own.pop(old)

    def put_shared(self, store: Store) -> None:
        key = f"shared/{self.chance.randrange(SHARED)}"
        value = self._new(key)
        entry = store.put(key, value)
        self.shared.append((entry.version, key, number_of(key, value)))

    def fail(self, store: Store) -> None:
        """A put that is refused leaves nothing."""
        try:
            store.put(f"refused/{self.number}", bytes(80 * CHUNK), max_pads=0)
        except PadLimitExceeded:
            return
        raise AssertionError("80 pads were free")

    def look(self, store: Store) -> None:
        """Own keys are as they were left; shared ones are whole."""
        for key, value in self.own.items():
            assert store[key] == value, key
        for key in (f"shared/{number}" for number in range(SHARED)):
            read(store, key)


def read(store: Store, key: str) -> int:
    """The number of the value there is now; 0 when there is none, or when it was replaced too often meanwhile."""
    try:
        return number_of(key, store[key])
    except (KeyNotFound, ValueChanged):
        return 0


class Pausing(Points):
    """At the ``at``-th point of this name the whole process is stopped, until somebody continues it."""

    def __init__(self, name: str, at: int) -> None:
        super().__init__()
        self._name, self._pause, self._passed = name, at, 0

    def _reach(self, point: Point, prepare: Callable[[], object] | None = None) -> None:
        with self._lock:
            self._passed += point.is_a(self._name)
            if self.hit is not None or self._passed != self._pause:
                return
            self.hit = point
        os.kill(os.getpid(), signal.SIGSTOP)


def paused(action: Callable[[], object], name: str, at: int) -> int:
    """Start ``action`` in a process of its own, which stops itself at that point; its pid, once it has. It may end first."""

    def run() -> None:
        with installed(Pausing(name, at)):
            action()

    pid = forked(run)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    return pid
