"""P2: when a mutation has returned, power loss cannot take it back; one that has not is done or not, never half.

The disk is rebuilt as it may be after power was lost before each recorded operation: without anything that was not
synced, with all of it, and with a random part of it.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from anthill_sync import Store, journal
from anthill_sync.errors import NoStore

from .power import Recording, recording
from .scenarios import LARGE, NEW, OLD, ONE_CHANGED, ONE_THREAD, PAD, SMALL, State, noise

SHORT = 90  # moments, three states of the disk at each
STEPS: list[tuple[Callable[[Store], object], State]] = [
    (lambda store: store.put("k", SMALL), {"k": SMALL}),
    (lambda store: store.put("l", LARGE), {"k": SMALL, "l": LARGE}),
    (lambda store: store.put("k", OLD), {"k": OLD, "l": LARGE}),
    (lambda store: store.put("l", ONE_CHANGED), {"k": OLD, "l": ONE_CHANGED}),
    (lambda store: store.rename("k", "m"), {"m": OLD, "l": ONE_CHANGED}),
    (lambda store: store.delete("l"), {"m": OLD}),
    (lambda store: store.put("m", NEW), {"m": NEW}),
    (lambda store: store.trim(), {"m": NEW}),
]


def record(home: Path, steps: int, threads: int) -> Recording:
    with recording(home) as recorder:
        settings = {**ONE_THREAD, "upload_threads": threads, "reserve_threads": threads}
        for act, _ in STEPS[:steps]:
            with Store.open(home, settings=settings) as store:
                act(store)
            recorder.acknowledge()
    return recorder.recording


def found_after(recorded: Recording, number: int, chance: random.Random, kept: float, target: Path) -> Path:
    """The home as it is after power was lost just before operation ``number``."""
    disk = copy.deepcopy(recorded.disks[number])
    disk.lose_power(chance, kept)
    return disk.restore(recorded.root, target)


def assert_found(home: Path, allowed: list[State]) -> None:
    """One of the states, proved; and the store works on."""
    with Store.open(home, settings=ONE_THREAD) as store:
        found = {key: store[key] for key in store}
        assert found in allowed, f"a state that never was, or was acknowledged and lost: {sorted(found)}"
        store.put("last", SMALL)
    with Store.open(home) as store:
        assert not store.check(read_data=True).problems
        assert {key: store[key] for key in store} == {**found, "last": SMALL}


@pytest.mark.parametrize(("threads", "checkpoints"), [(1, False), (1, True), (20, False)])
def test_power_loss_takes_nothing_back_that_was_acknowledged(
    threads: int, checkpoints: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long_run: bool, summary_line: list[str]
) -> None:
    if checkpoints:
        monkeypatch.setattr(journal, "CHECKPOINT_BYTES", 1)
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    Store.create(tmp_path / "home", pad_size=PAD).close()
    recorded = record(tmp_path / "home", len(STEPS), threads)
    states = [{}, *(state for _, state in STEPS)]
    wanted = len(recorded.disks) if long_run else SHORT // 3
    for number in range(0, len(recorded.disks), max(1, len(recorded.disks) // wanted)):
        step = recorded.steps[number]
        for kept in (0.0, 1.0, 0.5):
            home = found_after(recorded, number, chance, kept, tmp_path / "found")
            try:
                assert_found(home, states[step : step + 2])
            except Exception as error:
                raise AssertionError(f"power lost before operation {number} in step {step}, {kept} of the rest kept") from error
    summary_line.append(f"power loss: {3 * wanted} states of {len(recorded.disks)} moments, {threads} threads")


def test_power_loss_while_a_store_is_made_leaves_none_or_an_empty_one(tmp_path: Path) -> None:
    home, seed = tmp_path / "home", random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    home.mkdir(mode=0o700)
    with recording(home) as recorder:
        Store.create(home, pad_size=PAD).close()
    recorded, opened = recorder.recording, 0
    for number in range(len(recorded.disks)):
        for kept in (0.0, 1.0, 0.5):
            found = found_after(recorded, number, random.Random(seed + number), kept, tmp_path / "found")
            try:
                store = Store.open(found)
            except NoStore:
                continue
            opened += 1
            store.put("k", noise("first", 3000))
            assert list(store) == ["k"]
            store.close()
    assert opened
