"""A Store is a dict, whatever is done to it in whatever order, with crashes, failing networks and lost indexes in between."""

from __future__ import annotations

import shutil
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from anthill_sync import Store, durable
from anthill_sync.config import EMBEDDED_NETWORK
from anthill_sync.errors import KeyNotFound, NetworkError, PutFailed, StoreClosed, TryAgain
from anthill_sync.networks import memory
from anthill_sync.reports import RecoveryReport
from tests.recovery_tools import facts, is_clean, lose_index, recovered
from tests.store_tools import CHUNK, StoreRig, permanent, transient

from .campaign import Campaign
from .conftest import Begin
from .points import Crash, PointNetwork, Points, installed
from .scenarios import ONE_THREAD, State, noise, stream

FAILURES = (PutFailed, NetworkError, TryAgain)  # what a network that fails makes of a call
PARTS = 4
SIZES = [0, 1, 300, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 40, 5 * CHUNK + 9]

Change = dict[str, bytes | None]  # what keys have once it is made; all of it or nothing


@dataclass(frozen=True)
class CrashAt:
    """The program ends at this point of the call, counted from 1; later ones are never reached."""

    number: int


@dataclass(frozen=True)
class Failing:
    """The network fails at this operation, ``times`` times after ``skip`` good ones."""

    operation: str
    lasting: bool
    times: int
    skip: int
    lost: bool  # it does the work, and the answer is lost


keys = st.sampled_from(["a", "a/b", "b", "c", "träger/f"])
contents = st.builds(noise, st.sampled_from(["one", "two", "three"]), st.sampled_from(SIZES))
crashes = st.builds(CrashAt, st.integers(1, 45))
failures = st.builds(
    Failing,
    st.sampled_from(["reserve", "write", "confirm", "read"]),
    st.booleans(),
    st.sampled_from([1, 2, 10**6]),
    st.integers(0, 3),
    st.booleans(),
)
Trouble = CrashAt | Failing | None
troubles = st.one_of(st.none(), st.none(), crashes, failures)


class StoreMachine(RuleBasedStateMachine):
    """``values``: the dict. After trouble every change is made whole or not at all, and nothing else is different.
    ``unfinished``: changes that were not made, of which a recovery may find enough to make them."""

    def __init__(self, folder: Path, done: Counter[str]) -> None:
        super().__init__()
        self.folder, self.done = folder, done
        self.values: State = {}
        self.unfinished: list[Change] = []

    @initialize(network=st.sampled_from([None, None, "memory://"]), limit=st.sampled_from(["0", "2KiB", "256KiB"]))
    def make(self, network: str | None, limit: str) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        few: dict[str, Any] = {**ONE_THREAD, "attempts": 2, "rewrite_limit": limit}
        self.rig = StoreRig(self.folder / "home", network, **few)

    # -- a call, and what may go wrong with it

    def call(self, act: Callable[[Store], object], changes: list[Change], trouble: Trouble) -> None:
        """Each change is made once the call is over; after trouble perhaps, but whole or not at all."""
        if isinstance(trouble, CrashAt):
            ended = self._crashing(act, trouble)
        elif isinstance(trouble, Failing):
            ended = self._failing(act, trouble)
        else:
            act(self.rig.store)
            ended = True
        for change in changes:
            self._settle(change, ended)
        self.compare()

    def _settle(self, change: Change, ended: bool) -> None:
        if self._is_made(change):
            if ended or change != {key: self.values.get(key) for key in change}:
                self._make(change)
            return  # else the same as before: it may not have begun, and a change before it may yet be found
        assert not ended, f"{sorted(change)}: the call ended well and is not done"
        found = {key: self.rig.store.get(key) for key in change}
        assert found == {key: self.values.get(key) for key in change}, f"{sorted(change)}: neither old nor new"
        self.unfinished.append(change)

    def _is_made(self, change: Change) -> bool:
        return {key: self.rig.store.get(key) for key in change} == change

    def _make(self, change: Change) -> None:
        for key, value in change.items():
            self.values.pop(key, None)
            if value is not None:
                self.values[key] = value
        self.unfinished = [each for each in self.unfinished if not each.keys() & change.keys()]

    def _crashing(self, act: Callable[[Store], object], trouble: CrashAt) -> bool:
        """Another process opens the home afterwards; whether the call was over before its crash."""
        points = Points(trouble.number)
        ended = False
        with installed(points):
            self.rig.faulty.inner = PointNetwork(self.rig.raw, points)
            try:
                act(self.rig.store)
                ended = points.hit is None
            except (Crash, *FAILURES):
                pass
            except StoreClosed:  # the crash came to another thread, and this one found the journal closed by it
                assert points.hit is not None
            self.rig.store.close()
            for stage in (self.rig.session.pipeline.reservation, self.rig.session.pipeline.upload):
                stage._pool.shutdown(wait=True)
        self.rig.open()
        self.done["crashes" if points.hit else "calls that ended before their crash"] += 1
        return ended

    def _failing(self, act: Callable[[Store], object], trouble: Failing) -> bool:
        error = permanent if trouble.lasting else transient
        self.rig.faulty.fail(trouble.operation, error, times=trouble.times, skip=trouble.skip, lost=trouble.lost)
        ended = False
        with suppress(*FAILURES):
            act(self.rig.store)
            ended = True
        self.rig.mend()
        self.done["calls on a failing network"] += not ended
        return ended

    def compare(self) -> None:
        """Nothing but what was changed is different, and nothing is left of the call."""
        self.rig.assert_idle()
        assert dict(self.rig.store) == self.values

    # -- calls

    @rule(key=keys, data=contents, trouble=troubles)
    def put(self, key: str, data: bytes, trouble: Trouble) -> None:
        self.call(lambda store: store.put(key, data), [{key: data}], trouble)

    @rule(key=keys, data=contents, trouble=troubles)
    def put_stream(self, key: str, data: bytes, trouble: Trouble) -> None:
        self.call(lambda store: store.put(key, stream(data)), [{key: data}], trouble)

    @rule(items=st.dictionaries(keys, contents, min_size=2, max_size=4), trouble=troubles)
    def put_many(self, items: State, trouble: Trouble) -> None:
        self.call(lambda store: store.put_many(items), [{key: data} for key, data in items.items()], trouble)

    @rule(key=keys, at=st.integers(0, 10**6), how=st.sampled_from(["byte", "longer", "shorter", "same"]), trouble=troubles)
    def update(self, key: str, at: int, how: str, trouble: Trouble) -> None:
        """A value that is much like the one before."""
        old = bytearray(self.values.get(key, b""))
        if old and how == "byte":
            old[at % len(old)] ^= 255
        new = bytes(old[: at % (len(old) + 1)] if how == "shorter" else old + b"more" if how == "longer" else old)
        self.call(lambda store: store.put(key, new), [{key: new}], trouble)

    @rule(chosen=st.lists(keys, min_size=1, max_size=3, unique=True), trouble=troubles)
    def remove(self, chosen: list[str], trouble: Trouble) -> None:
        there = [key for key in chosen if key in self.values]
        self.call(lambda store: store.delete(*there), [dict.fromkeys(there)], trouble)

    @rule(old=keys, new=keys, trouble=troubles)
    def rename(self, old: str, new: str, trouble: Trouble) -> None:
        if old == new:
            return
        if old not in self.values:
            with pytest.raises(KeyNotFound):
                self.rig.store.rename(old, new, force=True)
            return
        change: Change = {old: None, new: self.values[old]}
        self.call(lambda store: store.rename(old, new, force=True), [change], trouble)

    @rule(trouble=troubles)
    def abandon(self, trouble: Trouble) -> None:
        self.call(lambda store: store.abandon(), [], trouble)

    @rule(trouble=troubles)
    def trim(self, trouble: Trouble) -> None:
        self.call(lambda store: store.trim(), [], trouble)

    @rule(count=st.integers(0, 3), trouble=troubles)
    def reserve(self, count: int, trouble: Trouble) -> None:
        self.call(lambda store: store.reserve(count), [], trouble)

    @rule(key=keys, data=contents, trouble=crashes)
    def put_file_and_resume(self, key: str, data: bytes, trouble: CrashAt) -> None:
        """A put that a crash interrupts, finished by ``resume`` where it had begun."""
        source = self.folder / "source"
        source.write_bytes(data)
        self.call(lambda store: store.put(key, source), [{key: data}], trouble)
        pending = [each.key for each in self.rig.store.pending() if each.source == str(source)]
        report = self.rig.store.resume(*pending) if pending else None
        if report is not None:
            self.values.update(dict.fromkeys((entry.key for entry in report.entries), data))
            self.done["resumed"] += len(report.entries)
        source.unlink()
        self.compare()

    # -- questions, and other processes

    @rule(key=keys, offset=st.integers(0, 3 * CHUNK), length=st.integers(0, 3 * CHUNK))
    def get(self, key: str, offset: int, length: int) -> None:
        value, out = self.values.get(key), self.folder / "out"
        assert self.rig.store.get(key) == value
        assert (key in self.rig.store) == (value is not None)
        if value is not None:
            assert self.rig.store.get_into(key, out, offset=offset, length=length).size == len(value)
            assert out.read_bytes() == value[offset : offset + length]

    @rule()
    def check(self) -> None:
        assert self.rig.store.check(read_data=True).problems == ()

    @rule()
    def reopen(self) -> None:
        self.rig.reopen()
        self.compare()

    # -- the index anew

    def recover(self) -> RecoveryReport:
        """Under a Store that is open; whatever is asked next, its memory map follows."""
        report = recovered(self.rig)
        assert self.rig.store.check().problems == ()
        return report

    @rule()
    def recover_what_is_sound(self) -> None:
        """An undamaged index always wins; but what was interrupted may be found to lack nothing but its record."""
        before, clean = facts(self.rig.index), is_clean(self.rig.index)
        report = self.recover()
        if clean:
            assert (facts(self.rig.index), report.changed) == (before, False)
        for change in [each for each in self.unfinished if self._is_made(each)]:
            self._make(change)
            self.done["finished by a recovery"] += 1
        self.compare()

    def recoverable(self) -> bool:
        """The pads alone tell everything. No precondition: hypothesis wants those to depend on nothing but the rules."""
        return bool(self.values) and is_clean(self.rig.index) and not self.rig.index.unreserved()

    @rule()
    def recover_a_lost_index(self) -> None:
        if not self.recoverable():
            return
        before = facts(self.rig.index)
        lose_index(self.rig)
        assert self.recover().keys == tuple(sorted(self.values))
        assert facts(self.rig.index) == before
        self.compare()
        self.done["lost indexes recovered"] += 1

    @rule()
    def recover_into_a_fresh_home(self) -> None:
        """From key and network alone; the store itself goes on as it was."""
        if not self.recoverable() or self.rig.config.network != EMBEDDED_NETWORK:
            return
        home, place = self.folder / "fresh", f"dir://{self.rig.home / 'pads'}"
        Store.recover(home, network=place, key_file=self.rig.config.key_path(self.rig.home), settings=ONE_THREAD)
        with Store.open(home, settings=ONE_THREAD) as store:
            assert dict(store) == self.values
            assert facts(store._session.index()) == facts(self.rig.index)
        shutil.rmtree(home)
        self.done["fresh homes"] += 1

    def teardown(self) -> None:
        """In the end two more runs take every removed name off the network: without the index none of them comes back."""
        if hasattr(self, "rig"):
            self.rig.mend()
            self.rig.store.abandon()
            self.rig.reopen()
            self.rig.store["last"] = self.values["last"] = b"1"
            assert is_clean(self.rig.index)
            self.rig.assert_sound(**self.values)
            self.recover_a_lost_index()
            self.rig.store.close()
            memory._NAMED.pop(self.rig.config.network.removeprefix("memory://"), None)  # else it is kept for ever
        self.done["histories"] += 1


@pytest.mark.parametrize("part", range(PARTS))
def test_a_store_is_a_dict_whatever_happens(part: int, tmp_path: Path, campaign: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "sync", lambda fd: None)
    monkeypatch.setattr(durable, "sync_folder", lambda path: None)
    with campaign("model", f"part {part + 1}", short=200 // PARTS, long=5000 // PARTS) as run:
        done: Counter[str] = Counter()
        try:
            run_machine(run, tmp_path / "folder", done, part)
        except Exception as error:  # noqa: BLE001 - told with the history that led to it
            run.violation("".join(traceback.format_exception(error)), error)
        run.counts["histories"] = done.pop("histories")
        run.notes.append(", ".join(f"{count} {what}" for what, count in sorted(done.items())))


def run_machine(run: Campaign, folder: Path, done: Counter[str], part: int) -> None:
    """As many histories as the campaign wants; hypothesis tells the shortest that fails, and a line that makes it again."""

    @seed(run.random(part).getrandbits(64))
    def machine() -> StoreMachine:
        return StoreMachine(folder, done)

    run_state_machine_as_test(
        machine,  # type: ignore[arg-type]
        settings=settings(
            max_examples=run.goal,
            stateful_step_count=50 if run.long else 30,
            deadline=None,
            database=None,
            print_blob=True,
            report_multiple_bugs=False,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
