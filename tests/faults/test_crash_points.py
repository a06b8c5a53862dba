"""P2 and P3: whatever the moment of a crash, the store has the old value or the new one, and doing it again finishes.

Every durable file operation and every network call is two points, before and after its effect, and a write a third
one in its middle. The program is ended at one of them, a new one opens the home, and everything is checked.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from anthill_sync import Store, durable
from anthill_sync.errors import AnthillError
from anthill_sync.index import _APPLY

from .conftest import Begin
from .points import Crash, Point, Points, every, installed
from .scenarios import PAD, SCENARIOS, Scenario, always_checkpoint, run

LEFT_OVER = 1  # an image that was adopted is sent once more, without the manifest that nobody published
SHORT = 32  # points per scenario in the short form, spread evenly


RECORDS = {
    "run": "put small",
    "reserving": "put chunks",
    "reserved": "put chunks",
    "writing": "put small",
    "publish": "put small",
    "committed": "put small",
    "idle": "put small",
    "begin": "put chunks",
    "adopted": "take over",
    "remove": "remove",
    "abandon": "abandon",
    "rename": "rename",
}  # a scenario in which each kind of record is written


@dataclass
class Home:
    """A scenario's home, ready for ``act``, and what the act does when nothing stops it."""

    template: Path
    points: list[Point]
    pads: int  # in all, afterwards
    writes: int


Prepare = Callable[[Scenario, int], Home]


@pytest.fixture(autouse=True)
def _no_power_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash of the program alone loses nothing that was written: do without the disk's pace."""
    monkeypatch.setattr(durable, "sync", lambda fd: None)
    monkeypatch.setattr(durable, "sync_folder", lambda path: None)


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    def prepare(scenario: Scenario, threads: int) -> Home:
        template = tmp_path / "template"
        Store.create(template, pad_size=PAD).close()
        run(template, lambda store: [store.put(key, value) for key, value in scenario.start.items()])
        run(template, lambda store: scenario.prepare(store, template))
        if scenario.checkpoints:
            always_checkpoint(monkeypatch.setattr)
        home = copy(template, tmp_path / "whole")
        with installed(Points()) as points:
            run(home, scenario.act, upload_threads=threads, reserve_threads=threads)
        assert content(home) == scenario.aim
        return Home(template, points.seen, pads(home), written(points))

    return prepare


def copy(template: Path, home: Path) -> Path:
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(template, home)
    return home


def content(home: Path) -> dict[str, bytes]:
    """All values, after everything has been proved."""
    with Store.open(home) as store:
        report = store.check(read_data=True)
        assert not report.problems
        return {key: store[key] for key in store}


def pads(home: Path) -> int:
    """Pad numbers in use, reserved for certain or not."""
    with Store.open(home) as store:
        return store._session.index().pads


def written(points: Points) -> int:
    return Counter(points.seen)[Point("network.write", "after")]


def committed(home: Path) -> int:
    """Images committed so far, of all pads."""
    with Store.open(home) as store:
        return sum(store._session.index().counters)


def crash(home: Path, scenario: Scenario, at: int, threads: int, only: str = "") -> Points:
    """Run the act and end it at its point number ``at`` (of those that are ``only``)."""
    points = Points(at, only=only)
    try:
        with installed(points):
            run(home, scenario.act, upload_threads=threads, reserve_threads=threads)
    except Crash:
        pass
    except AnthillError:  # what another thread made of the crash came first
        assert points.dead
    return points


def assert_survived(home: Path, scenario: Scenario, whole: Home, sent_before: int, threads: int) -> None:
    """Old or new; the same again finishes, sends little again, and needs no pad more."""
    scenario.assert_allowed(content(home))
    kept = committed(home) - sent_before
    with installed(Points()) as points:
        run(home, scenario.act, upload_threads=threads, reserve_threads=threads)
    assert content(home) == scenario.aim
    if not scenario.repeats:  # else what was interrupted holds its pads while everything before is done once more
        again = written(points) + kept - whole.writes
        assert again <= threads + LEFT_OVER, f"{again} pads were sent again, more than were in flight"
        assert pads(home) <= whole.pads, "a reserved pad was lost"
    assert_clean(home)


def assert_clean(home: Path) -> None:
    """Nothing is left to resolve, to resume or to rewrite once one more mutation has run."""
    run(home, lambda store: store.put("last", b"x"))
    with Store.open(home) as store:
        index = store._session.index()
        assert (index.writing, index.to_rewrite, store.pending()) == (set(), set(), [])
        assert store["last"] == b"x"


def spread(count: int, wanted: int) -> Iterator[int]:
    """``wanted`` of the numbers 1 to ``count``, evenly."""
    step = max(1.0, count / wanted)
    return (1 + int(number * step) for number in range(min(count, wanted)))


@pytest.mark.parametrize("threads", [1, 20])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_crash_leaves_old_or_new_and_the_same_again_finishes(
    scenario: Scenario, threads: int, prepared: Prepare, tmp_path: Path, campaign: Begin
) -> None:
    whole = prepared(scenario, threads)
    sent_before = committed(whole.template)
    part = f"{scenario.name}, {threads} thread{'s'[: threads - 1]}, within a process"
    points = every(whole.points)
    short = min(len(points), SHORT if threads == 1 else SHORT // 4)
    with campaign("kill -9", part, short=short, long=len(points)) as run:
        for at in spread(len(points), run.goal):
            name, number = points[at - 1]
            with run.case(name, f"number {number}"):
                assert_survived(
                    crashed(scenario, whole, tmp_path / "home", name, number, threads), scenario, whole, sent_before, threads
                )


def crashed(scenario: Scenario, whole: Home, home: Path, name: str, number: int, threads: int) -> Path:
    """A copy of the home after a crash at the ``number``-th point of this name; several threads may come by fewer of them
    than the other time, not by none."""
    for each in (number, 1):
        points = crash(copy(whole.template, home), scenario, each, threads, name)
        if points.hit is not None:
            return home
    raise AssertionError("the point was not reached")


@pytest.mark.parametrize("name", sorted(_APPLY))
def test_a_crash_at_any_kind_of_journal_record_leaves_old_or_new(name: str, prepared: Prepare, tmp_path: Path) -> None:
    scenario = next(each for each in SCENARIOS if each.name == RECORDS[name])
    whole = prepared(scenario, 1)
    sent_before = committed(whole.template)
    for phase in ("before", "torn", "after"):
        home = copy(whole.template, tmp_path / "home")
        points = crash(home, scenario, 1, 1, f"record {name}|{phase}")
        assert points.hit is not None, f"no {name} record was written"
        assert_survived(home, scenario, whole, sent_before, 1)
