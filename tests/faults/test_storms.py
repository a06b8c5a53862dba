"""Servers that refuse, stall, flood or lie: every command ends in time and in bounds, says the right thing, and the store
works on as soon as the server does."""

from __future__ import annotations

import random
import shutil
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from anthill_sync import durable
from anthill_sync.settings import MIB
from tests.cli_tools import Result, Shell
from tests.store_tools import wait_until

from .campaign import evenly
from .conftest import Begin
from .hostility import Hostility, hostilities
from .laboratory import Laboratory, one_more
from .proxy import nothing, storm
from .scenarios import CHUNK, State, noise, run

DEADLINE, ALL_TRIES = 0.15, 0.3  # seconds: one network call, and one with its repeats
GRACE = 2.0  # seconds a command may take beyond those
THREADS, ATTEMPTS = 4, 3
MEMORY = 24 * MIB  # bytes; pads here have 16 KiB
FOREVER = 10**6

LARGE, SMALL, NEW = noise("large", 4 * CHUNK + 9), noise("small", 500), noise("new", 3 * CHUNK + 9)
BEFORE: State = {"k": LARGE, "l": SMALL}


@dataclass(frozen=True)
class Command:
    """``after``: what the store holds then. ``again``: exit codes of the same once more, when it may have been done."""

    argv: tuple[str, ...]
    after: State
    again: tuple[int, ...] = (0,)


COMMANDS = {
    "put": Command(("put", "n", "@new"), {**BEFORE, "n": NEW}),
    "overwrite": Command(("put", "l", "@new"), {**BEFORE, "l": NEW}),
    "get": Command(("get", "k", "@out"), BEFORE),
    "rm": Command(("rm", "k"), {"l": SMALL}, (0, 66)),
    "mv": Command(("mv", "k", "m"), {"m": LARGE, "l": SMALL}, (0, 66)),
}
LATER = ("rm", "mv")  # what they could not rewrite is left for later runs: 75, whatever the reason


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "sync", lambda fd: None)
    monkeypatch.setattr(durable, "sync_folder", lambda path: None)


@pytest.fixture
def elsewhere() -> Iterator[socket.socket]:
    """A server that nobody may ever come to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener
        with pytest.raises(BlockingIOError):
            listener.accept()


@dataclass(frozen=True)
class Measured:
    result: Result
    seconds: float
    memory: int  # bytes at its peak
    requests: int


class Field:
    """A store, a server, and a proxy between them that says what it is told to."""

    def __init__(self, laboratory: Laboratory, patch: pytest.MonkeyPatch) -> None:
        self.laboratory, self.proxy, self._patch = laboratory, laboratory.proxy, patch
        self._template, self.out = laboratory.folder / "template", laboratory.folder / "out"
        (laboratory.folder / "new").write_bytes(NEW)
        laboratory.create(self._template)
        run(self._template, lambda store: [store.put(key, value) for key, value in BEFORE.items()])
        self._pads = dict(laboratory.memory.pads)
        self.most = Measured(Result(0, b"", ""), 0.0, 0, 0)
        self.asked = {name: self._requests(name) for name in COMMANDS}

    def _requests(self, name: str) -> int:
        """How much a command asks when all is well."""
        assert Shell(self.begin())(*self.words(name)).code == 0
        return self.proxy.requests

    def begin(self) -> Path:
        """Back to the beginning; the server works."""
        self.out.unlink(missing_ok=True)
        self.proxy.reset(nothing)
        return self.laboratory.put_back(self._template, self._pads)

    def words(self, name: str) -> list[str]:
        return [str(self.laboratory.folder / word[1:]) if word.startswith("@") else word for word in COMMANDS[name].argv]

    def set(self, **values: object) -> None:
        """Settings, by the environment."""
        for name, value in {"backoff_base": 0, **values}.items():
            self._patch.setenv(f"ANTHILL_{name.upper()}", str(value))

    def impatient(self) -> None:
        pools = {f"{stage}_threads": THREADS for stage in ("reserve", "upload", "download")}
        self.set(attempts=ATTEMPTS, retry_seconds=ALL_TRIES, deadline_base=DEADLINE, **pools)

    def patient(self) -> None:
        self.set(attempts=8, retry_seconds=60, deadline_base=60)

    def measure(self, home: Path, *words: str) -> Measured:
        tracemalloc.start()
        begun = time.monotonic()
        try:
            result = Shell(home)(*words)
            found = Measured(result, time.monotonic() - begun, tracemalloc.get_traced_memory()[1], self.proxy.requests)
        finally:
            tracemalloc.stop()
        self.most = Measured(result, max(self.most.seconds, found.seconds), max(self.most.memory, found.memory), 0)
        return found


def assert_ended(measured: Measured, *codes: int, most_requests: int) -> None:
    """As it should, in time and in bounds, with one line for people."""
    assert measured.result.code in codes, measured.result
    assert measured.seconds <= ALL_TRIES + 2 * DEADLINE + GRACE, f"{measured.seconds:.1f} s"
    assert measured.memory <= MEMORY, f"{measured.memory} bytes"
    assert measured.requests <= most_requests, f"{measured.requests} requests"
    assert measured.result.err.removesuffix("\n").isprintable(), measured.result.err
    assert len(measured.result.err) < 1000
    wait_until(lambda: not our_threads(), lambda: f"still running: {our_threads()}")


def our_threads() -> list[str]:
    stages = ("anthill-deadlines", "anthill-reserve", "anthill-upload", "anthill-download")
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(stages)]


def fail(field: Field, kind: Hostility, name: str, chance: random.Random) -> None:
    """It never ends: the command does, and works once the server does."""
    home, proxy = field.begin(), field.proxy
    field.impatient()
    proxy.reset(storm(chance.randint(1, field.asked[name]), FOREVER, kind.name))
    measured = field.measure(home, *field.words(name))
    codes = (kind.code, 75) if name in LATER else (kind.code,)
    assert_ended(measured, *codes, most_requests=field.asked[name] + 2 * THREADS * ATTEMPTS)
    assert not field.out.exists()
    field.patient()
    proxy.reset(nothing)
    assert Shell(home)(*field.words(name)).code in COMMANDS[name].again
    one_more(home)
    assert_done(field, home, name)


def get_over(field: Field, kind: Hostility, name: str, chance: random.Random) -> None:
    """It ends soon: the command hardly notices."""
    home = field.begin()
    field.patient()
    field.set(deadline_base=2 * DEADLINE)
    place = chance.randint(1, field.asked[name])
    field.proxy.reset(storm(place, place + 2, kind.name))
    result = Shell(home)(*field.words(name))
    assert (result.code, result.err) == (0, ""), result
    assert field.proxy.requests <= 3 * field.asked[name] + 6
    assert_done(field, home, name)


def assert_done(field: Field, home: Path, name: str) -> None:
    assert field.laboratory.content(home) == COMMANDS[name].after
    field.laboratory.assert_at_rest(home)
    assert name != "get" or field.out.read_bytes() == LARGE


def fail_init(field: Field, kind: Hostility, name: str, chance: random.Random) -> None:
    """``anthill init`` makes no store, and makes one when the server works."""
    home = field.laboratory.folder / "made"
    shutil.rmtree(home, ignore_errors=True)
    field.laboratory.hold({})
    field.impatient()
    field.proxy.reset(storm(1, FOREVER, kind.name))
    command = ("init", "--network", field.proxy.url, "--pad-size", "16KiB")
    assert_ended(field.measure(home, *command), kind.init, most_requests=ATTEMPTS)
    assert not (home / "config.json").exists()
    field.patient()
    field.proxy.reset(nothing)
    Shell(home).ok(*command)
    Shell(home).ok("put", "k", "-", stdin=SMALL)
    assert field.laboratory.content(home) == {"k": SMALL}


Case = tuple[Callable[[Field, Hostility, str, random.Random], None], Hostility, str]


def all_cases(kinds: list[Hostility]) -> Iterator[Case]:
    for kind in kinds:
        yield fail_init, kind, "init"
        for name in COMMANDS:
            yield fail, kind, name
            if kind.passes:
                yield get_over, kind, name


def test_no_server_keeps_a_command_beyond_its_bounds_or_spoils_a_store(
    tmp_path: Path, campaign: Begin, elsewhere: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Laboratory(tmp_path) as laboratory, campaign("storms and stalls", short=90, long=700) as campaign_:
        kinds = hostilities(laboratory.server.server_id, f"http://127.0.0.1:{elsewhere.getsockname()[1]}/v1/status")
        laboratory.proxy.says = {kind.name: kind.says for kind in kinds if kind.says is not None}
        field = Field(laboratory, monkeypatch)
        chance = campaign_.random()
        for case, kind, name in evenly(list(all_cases(kinds)), lambda case: case[1].name, campaign_.goal, chance):
            with campaign_.case(f"{case.__name__}: {kind.name}", name):
                case(field, kind, name, chance)
        campaign_.notes.append(
            f"no command took longer than {field.most.seconds:.1f} s, or allocated more than {field.most.memory / MIB:.1f} MiB"
        )
