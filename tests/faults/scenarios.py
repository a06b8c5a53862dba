"""What is interrupted: a store before, one thing done to it, and the states that may be found afterwards."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from anthill_sync import Store
from anthill_sync.errors import AnthillError

from .points import Crash, Points, installed

PAD = 16 * 1024
CHUNK = 15 * 1024
ONE_THREAD = {"reserve_threads": 1, "upload_threads": 1, "download_threads": 1, "backoff_base": 0}

State = dict[str, bytes]
Act = Callable[[Store], object]
Interrupt = Callable[[Store, Path], object]


def noise(name: str, size: int) -> bytes:
    """Always the same bytes for a name."""
    return random.Random(name).randbytes(size)


OTHER = {"other/small": noise("other small", 700), "other/large": noise("other large", 2 * CHUNK + 900)}
OLD, NEW = noise("old", 3 * CHUNK + 5000), noise("new", 4 * CHUNK + 2000)
LARGE = noise("large", 5 * CHUNK + 300)
ONE_CHANGED = LARGE[: 2 * CHUNK] + noise("changed", CHUNK) + LARGE[3 * CHUNK :]
SMALL = noise("small", 900)
MANY = {f"many/{number}": noise(f"many {number}", 300 + 40 * number) for number in range(25)}


@dataclass(frozen=True)
class Scenario:
    """``before``: values put first. ``prepare``: what else is done first, with the home's path. ``act``: what is
    interrupted; doing it again is the way to finish it. ``states``: what may be found then, besides ``before``, in
    order; the last one is the aim. ``apart``: every key changes on its own."""

    name: str
    act: Act
    states: tuple[State, ...]
    before: State = field(default_factory=dict)
    prepare: Interrupt = lambda store, home: None
    apart: bool = False
    checkpoints: bool = False  # one after every line of the journal
    repeats: bool = False  # doing it again does everything again

    @property
    def start(self) -> State:
        return {**OTHER, **self.before}

    @property
    def aim(self) -> State:
        return {**OTHER, **self.states[-1]}

    def assert_allowed(self, found: State) -> None:
        """One of the states, never a third."""
        states = [self.start, *({**OTHER, **state} for state in self.states)]
        if self.apart:
            for key in {*found, *self.start, *self.aim}:
                assert found.get(key) in [state.get(key) for state in states], f"{key} is neither old nor new"
        else:
            assert found in states, f"a state that never was: {sorted(found)}"


def stream(data: bytes) -> Iterator[bytes]:
    """``data`` in pieces that fit nothing."""
    for start in range(0, len(data), 7000):
        yield data[start : start + 7000]


def source_file(home: Path) -> Path:
    """A file outside the home that holds LARGE."""
    path = home.parent / "source"
    if not path.exists():
        path.write_bytes(LARGE)
    return path


def interrupted_put(store: Store, home: Path) -> None:
    """A put of LARGE as ``k`` that got as far as its third image, then failed for good."""
    crash_at(store.home, lambda each: each.put("k", source_file(home)), "network.write|before", 4)


def in_flight(store: Store, home: Path) -> None:
    """An update of a shared image and a full chunk that arrived, and a crash before the journal said so."""
    crash_at(store.home, lambda each: each.put("k", SMALL), "network.confirm|after", 1)
    crash_at(store.home, lambda each: each.put("l", LARGE), "network.confirm|after", 1)


def crash_at(home: Path, act: Act, only: str, number: int) -> None:
    """Do ``act`` in a store of its own, and crash at the ``number``-th such point."""
    with installed(Points(number, only=only)), pytest.raises(Crash):
        run(home, act)


def run(home: Path, act: Act, **settings: object) -> None:
    """``act`` in a store of its own; its threads have ended when this returns."""
    store = Store.open(home, settings={**ONE_THREAD, **settings})
    try:
        act(store)
    finally:
        store.close()
        for stage in (store._session.pipeline.reservation, store._session.pipeline.upload):
            stage._pool._executor.shutdown(wait=True)


def rename(old: str, new: str, force: bool = False) -> Act:
    def act(store: Store) -> None:
        if old in store:
            store.rename(old, new, force=force)

    return act


def several(store: Store) -> None:
    """Many mutations of one Store object, which gives the lock back after each."""
    store.put("k", OLD)
    store.put("l", SMALL)
    store.delete("k")
    with suppress(AnthillError):
        store.put("m", bytes(60 * CHUNK), max_pads=0)
    store.put("k", NEW)
    store.put("l", OLD)
    store.put("m", stream(SMALL))


SCENARIOS = [
    Scenario("put small", lambda store: store.put("k", SMALL), ({"k": SMALL},)),
    Scenario("put chunks", lambda store: store.put("k", LARGE), ({"k": LARGE},)),
    Scenario("put many", lambda store: store.put_many(MANY), (MANY,), apart=True),
    Scenario("put stream", lambda store: store.put("k", stream(LARGE)), ({"k": LARGE},)),
    Scenario("overwrite", lambda store: store.put("k", NEW), ({"k": NEW},), before={"k": OLD}),
    Scenario("update one chunk", lambda store: store.put("k", ONE_CHANGED), ({"k": ONE_CHANGED},), before={"k": LARGE}),
    Scenario("resume", lambda store: store.resume(), ({"k": LARGE},), prepare=interrupted_put),
    Scenario("put again", lambda store: store.put("k", LARGE), ({"k": LARGE},), before={"k": OLD}, prepare=interrupted_put),
    Scenario("abandon", lambda store: store.abandon(), ({"k": OLD},), before={"k": OLD}, prepare=interrupted_put),
    Scenario(
        "remove",
        lambda store: store.delete("k", "l", ignore_missing=True),
        ({},),
        before={"k": OLD, "l": SMALL},
        prepare=interrupted_put,
    ),
    Scenario("rename", rename("k", "m"), ({"m": OLD},), before={"k": OLD}),
    Scenario("rename over", rename("k", "l", True), ({"l": OLD},), before={"k": OLD, "l": SMALL}),
    Scenario("trim", lambda store: store.trim(), ({"k": SMALL},), before={"k": SMALL}, prepare=lambda store, home: freed(store)),
    Scenario("reserve", lambda store: store.reserve(4 - store.usage().pads.reserved), ({},)),
    Scenario("take over", lambda store: (store.put("m", SMALL), store.abandon()), ({"m": SMALL},), prepare=in_flight),
    Scenario("checkpoint", lambda store: store.put("k", NEW), ({"k": NEW},), before={"k": OLD}, checkpoints=True),
    Scenario(
        "one store, several puts",
        several,
        tuple(
            {"k": OLD, "l": SMALL, **dict(more)}
            for more in ({}, {"k": NEW}, {"k": NEW, "l": OLD}, {"k": NEW, "l": OLD, "m": SMALL})
        ),
        apart=True,
        repeats=True,
    ),
]


def freed(store: Store) -> None:
    """Leave pads with dead blocks in them."""
    store.put("k", NEW)
    store.put("k", SMALL)
