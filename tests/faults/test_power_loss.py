"""P2: when a mutation has returned, power loss cannot take it back; one that has not is done or not, never half.

The disk is rebuilt as it may be after power was lost before each recorded operation: what was not synced is kept,
dropped or torn, and entries of folders that were not synced are present or absent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from anthill_sync import Store, durable
from anthill_sync.errors import NoStore

from .conftest import Begin
from .power import SURVIVALS, Recording, Survival, recording
from .scenarios import LARGE, MANY, NEW, OLD, ONE_CHANGED, ONE_THREAD, PAD, SMALL, State, always_checkpoint, crash_at, noise

SHORT, LONG = 500, 5000  # states of each of the four parts
PUT_AFTERWARDS = 4  # in every fourth state something is put


@dataclass(frozen=True)
class Step:
    """A mutation, and what it changes; None: the key is gone. ``apart``: every key changes on its own."""

    act: Callable[[Store], object]
    changes: dict[str, bytes | None]
    apart: bool = False


def interrupted(store: Store, key: str, source: Path, data: bytes) -> None:
    """A put that ends at its third image."""
    source.write_bytes(data)
    crash_at(store.home, lambda each: each.put(key, source), "network.write|before", 3)


def steps(folder: Path) -> list[Step]:
    return [
        Step(lambda store: store.put("k", SMALL), {"k": SMALL}),
        Step(lambda store: store.put("l", LARGE), {"l": LARGE}),
        Step(lambda store: store.put_many(MANY), dict(MANY), apart=True),
        Step(lambda store: store.put("k", OLD), {"k": OLD}),
        Step(lambda store: store.put("l", ONE_CHANGED), {"l": ONE_CHANGED}),
        Step(lambda store: store.reserve(3), {}),
        Step(lambda store: interrupted(store, "n", folder / "n", LARGE), {}),
        Step(lambda store: store.resume(), {"n": LARGE}),
        Step(lambda store: store.rename("k", "m"), {"k": None, "m": OLD}),
        Step(lambda store: store.delete("l", *list(MANY)[:20]), {"l": None, **dict.fromkeys(list(MANY)[:20])}),
        Step(lambda store: store.put("m", NEW), {"m": NEW}),
        Step(lambda store: interrupted(store, "o", folder / "o", NEW), {}),
        Step(lambda store: store.abandon(), {}),
        Step(lambda store: store.trim(), {}),
    ]


@dataclass(frozen=True)
class Expected:
    """What must be found once some of the steps were acknowledged."""

    values: State
    pads: int  # reserved for certain
    next: Step | None

    def assert_found(self, home: Path, put: bool) -> None:
        """It, or what the next step makes of it, proved; and the store works on."""
        with Store.open(home, settings=ONE_THREAD) as store:
            found = {key: store[key] for key in store}
            self._assert_allowed(found)
            assert store.usage().pads.total >= self.pads, "a pad that was reserved is forgotten"
            assert not store.check().problems
            if put:
                store.put("last", SMALL)
        if put:
            with Store.open(home, settings=ONE_THREAD) as store:
                assert not store.check(read_data=True).problems
                assert {key: store[key] for key in store} == {**found, "last": SMALL}

    def _assert_allowed(self, found: State) -> None:
        after = changed(self.values, {} if self.next is None else self.next.changes)
        if self.next is not None and self.next.apart:
            for key in {*found, *self.values, *after}:
                assert found.get(key) in (self.values.get(key), after.get(key)), f"{key} is neither old nor new"
        else:
            assert found in (self.values, after), f"a state that never was, or was acknowledged and lost: {sorted(found)}"


def changed(values: State, changes: dict[str, bytes | None]) -> State:
    after = {**values, **changes}
    return {key: value for key, value in after.items() if value is not None}


def record(home: Path, threads: int) -> tuple[Recording, list[Expected]]:
    """All steps, each in a Store of its own; and what must be found after each number of them."""
    settings = {**ONE_THREAD, "upload_threads": threads, "reserve_threads": threads}
    todo = steps(home.parent)
    expected: list[Expected] = []
    values: State = {}
    pads = 0
    with recording(home) as recorder:
        for step in todo:
            expected.append(Expected(values, pads, step))
            with Store.open(home, settings=settings) as store:
                step.act(store)
                pads = store.usage().pads.total
            recorder.acknowledge()
            values = changed(values, step.changes)
    return recorder.recording, [*expected, Expected(values, pads, None)]


def moments(recorded: Recording, wanted: int, chance: Random) -> dict[int, list[Survival]]:
    """``wanted`` states: at which moments, and what survives. Half of them where the order of a folder's changes matters,
    which is seldom."""
    entangled = [moment for moment, (_, disk) in enumerate(recorded.disks()) if disk.entangled]
    chosen: defaultdict[int, list[Survival]] = defaultdict(list)
    for where, count in ((entangled, wanted // 2), (list(range(recorded.moments)), wanted - wanted // 2)):
        pairs = [(moment, survival) for moment in where for survival in SURVIVALS]
        rounds, rest = divmod(count, len(pairs))
        for moment, survival in [*pairs * rounds, *chance.sample(pairs, rest)]:
            chosen[moment].append(survival)
    return chosen


@pytest.mark.parametrize("checkpoints", [False, True], ids=["", "checkpoints"])
@pytest.mark.parametrize("threads", [1, 20])
def test_power_loss_takes_nothing_back_that_was_acknowledged(
    threads: int, checkpoints: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, campaign: Begin
) -> None:
    if checkpoints:
        always_checkpoint(monkeypatch.setattr)
    Store.create(tmp_path / "home", pad_size=PAD).close()
    recorded, expected = record(tmp_path / "home", threads)
    monkeypatch.setattr(durable, "sync", lambda fd: None)  # what is found loses no power once more
    monkeypatch.setattr(durable, "sync_folder", lambda path: None)
    part = f"{threads} thread{'s'[: threads - 1]}{', a checkpoint after every line' if checkpoints else ''}"
    with campaign("power loss", part, short=SHORT, long=LONG) as run:
        chosen, number = moments(recorded, run.goal, run.random("moments")), 0
        for moment, (step, disk) in enumerate(recorded.disks()):
            for survival in chosen[moment]:
                number += 1
                with run.case(survival.name, f"before operation {moment}, {step} steps acknowledged"):
                    home = disk.found(survival, run.random(number), tmp_path / "found")
                    expected[step].assert_found(home, put=number % PUT_AFTERWARDS == 0)


def test_power_loss_while_a_store_is_made_leaves_none_or_an_empty_one(tmp_path: Path, campaign: Begin) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    with recording(home) as recorder:
        Store.create(home, pad_size=PAD).close()
    states = len(SURVIVALS) * recorder.recording.moments
    opened = 0
    with campaign("power loss", "making a store", short=2 * states, long=20 * states) as run:
        for moment, (_, disk) in enumerate(recorder.recording.disks()):
            for survival in SURVIVALS * (run.goal // states):
                with run.case(survival.name, f"before operation {moment}"):
                    opened += opens_empty(disk.found(survival, run.random(moment, run.done), tmp_path / "found"))
    assert opened


def opens_empty(home: Path) -> bool:
    """False: there is no store."""
    try:
        store = Store.open(home)
    except NoStore:
        return False
    with store:
        store.put("k", noise("first", 3000))
        assert list(store) == ["k"]
    return True
