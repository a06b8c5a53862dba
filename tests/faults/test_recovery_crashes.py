"""Whatever the moment at which ``recover`` or ``repair`` is killed or loses power, running it again finishes the work.

As in ``test_crash_points``, every durable file operation and every network call is two points. Between them the store is
as damaged as it was, or mended; no value is ever read wrongly, and none that could be read is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import Store, durable
from anthill_sync.errors import AnthillError, Damaged, NoStore
from anthill_sync.recovery import recover

from .campaign import Campaign
from .conftest import Begin
from .points import Crash, Points, installed
from .power import SURVIVALS, recording
from .scenarios import LARGE, OLD, OTHER, PAD, SMALL, State, run
from .test_crash_points import copy, spread

BEFORE: State = {**OTHER, "k": OLD, "l": SMALL, "m": LARGE}
SHORT = 26  # points of one case; all of them in the long form
FILES = ("index.json", "index.journal")


def pad_file(home: Path, pad: int) -> Path:
    with Store.open(home) as store:
        address = store._session.pads.name(pad).address
    return home / "pads" / address[:2] / address


def place(home: Path, key: str, chunk: int) -> int:
    """The pad of a chunk."""
    with Store.open(home) as store:
        return (store.stat(key).blocks or ())[chunk].pad


def break_tables(home: Path) -> None:
    """Of a shared pad and of a full one; their blocks still open."""
    for pad in {place(home, "l", 0), place(home, "m", 1)}:
        path = pad_file(home, pad)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)


def break_line(home: Path, number: int) -> None:
    path = home / "index.journal"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number] = b"x" + lines[number][1:]
    path.write_bytes(b"".join(lines))


def break_journal(home: Path) -> None:
    """A line in the middle that tells nothing of a value: the order of lines is up to the threads, and a value whose line
    and whose manifest are both damaged is lost."""
    lines = (home / "index.journal").read_bytes().splitlines()
    idle = [number for number, line in enumerate(lines) if b'"r":[["idle",[]]]' in line]
    break_line(home, idle[len(idle) // 2])


def lose_index(home: Path) -> None:
    for name in FILES:
        (home / name).unlink()


def yesterday(home: Path) -> None:
    """An index from before the last values."""
    files = {name: (home / name).read_bytes() for name in FILES}
    run(home, lambda store: store.put("l", OLD))
    run(home, lambda store: store.put("l", SMALL))
    for name, data in files.items():
        (home / name).write_bytes(data)


def everything(home: Path) -> None:
    """A damaged index over damaged pads."""
    run(home, lambda store: store.put("n", SMALL))
    run(home, lambda store: store.delete("n"))
    break_tables(home)
    break_journal(home)


@dataclass(frozen=True)
class Case:
    """``damage``: what is done to a store that holds BEFORE. ``act``: what mends it."""

    name: str
    damage: Callable[[Path], object]
    act: Callable[[Store], object]


CASES = [
    Case("recover a damaged index", break_journal, lambda store: recover(store._session)),
    Case("recover a lost index", lose_index, lambda store: recover(store._session)),
    Case("recover yesterday's index", yesterday, lambda store: recover(store._session)),
    Case("repair pads", break_tables, lambda store: store.repair()),
    Case("repair index and pads", everything, lambda store: store.repair()),
]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
def template(case: Case, tmp_path: Path) -> Path:
    home = tmp_path / "template"
    Store.create(home, pad_size=PAD).close()
    run(home, lambda store: [store.put(key, value) for key, value in BEFORE.items()])
    case.damage(home)
    return home


def assert_nothing_wrong(home: Path) -> None:
    """Each value is read as it is, or named as damaged, or the index says that it is damaged."""
    with Store.open(home) as store:
        for key, value in BEFORE.items():
            try:
                assert store.get(key) == value, key
            except Damaged:
                continue


def assert_mended(home: Path, case: Case) -> None:
    """Doing it again finishes; then nothing is left of the damage."""
    run(home, case.act)
    with Store.open(home) as store:
        assert store.check(read_data=True).problems == ()
        assert {key: store[key] for key in store} == BEFORE
        store.put("last", SMALL)
    with Store.open(home) as store:
        index = store._session.index()
        assert (index.writing, index.to_rewrite, store.pending()) == (set(), set(), [])


def test_killed_at_any_point_it_is_finished_by_running_it_again(
    case: Case, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, campaign: Begin
) -> None:
    monkeypatch.setattr(durable, "sync", lambda fd: None)
    monkeypatch.setattr(durable, "sync_folder", lambda path: None)
    with installed(Points()) as whole:
        run(copy(template, tmp_path / "home"), case.act)
    assert_mended(tmp_path / "home", case)
    with campaign("kill -9", f"in the program, {case.name}", short=min(SHORT, len(whole.seen)), long=len(whole.seen)) as done:
        for at in spread(len(whole.seen), done.goal):
            kill_once(done, case, copy(template, tmp_path / "home"), at)


def crash(at: int, act: Callable[[], object]) -> Points:
    """Do it, and end it at its point number ``at``; how many pads were looked at too far ahead is not always the same."""
    points = Points(at)
    try:
        with installed(points):
            act()
    except Crash:
        pass
    except AnthillError:  # what another thread made of the crash came first
        assert points.dead
    return points


def kill_once(done: Campaign, case: Case, home: Path, at: int) -> None:
    points = crash(at, lambda: run(home, case.act))
    with done.case(str(points.hit), f"at point {at}"):
        assert_nothing_wrong(home)
        assert_mended(home, case)


def test_power_lost_at_any_point_it_is_finished_by_running_it_again(
    case: Case, template: Path, tmp_path: Path, campaign: Begin
) -> None:
    with recording(template) as recorder:
        run(template, case.act)
    recorded = recorder.recording
    states = recorded.moments * len(SURVIVALS)
    with campaign("power loss", case.name, short=min(SHORT, states), long=states) as done:
        chosen = set(done.random("moments").sample(range(states), done.goal))
        for moment, (_, disk) in enumerate(recorded.disks()):
            for number, survival in enumerate(SURVIVALS, moment * len(SURVIVALS)):
                if number in chosen:
                    with done.case(survival.name, f"before operation {moment}"):
                        home = disk.found(survival, done.random(number), tmp_path / "found")
                        assert_nothing_wrong(home)
                        assert_mended(home, case)


def test_whichever_line_is_damaged_over_damaged_pads_repair_keeps_every_value_but_the_one_it_tells_of(tmp_path: Path) -> None:
    """Whose manifest is on a damaged pad; it is named, where another line has its name too."""
    home = tmp_path / "template"
    Store.create(home, pad_size=PAD).close()
    run(home, lambda store: [store.put(key, value) for key, value in BEFORE.items()])
    break_tables(home)
    kept_all = 0
    for number, line in enumerate((home / "index.journal").read_bytes().splitlines()):
        copied = copy(home, tmp_path / "copy")
        break_line(copied, number)
        named = run(copied, lambda store: store.repair()).lost
        with Store.open(copied) as store:
            assert store.check(read_data=True).problems == ()
            found = {key: store[key] for key in store}
        gone = BEFORE.keys() - found.keys()
        assert found == {key: BEFORE[key] for key in found}
        assert gone == set(named) or all(f'"publish","{key}"'.encode() in line for key in gone)
        assert len(gone) <= 1
        kept_all += not gone
    assert kept_all


def test_old_files_are_kept_before_anything_takes_their_place(tmp_path: Path) -> None:
    home = tmp_path / "home"
    Store.create(home, pad_size=PAD).close()
    run(home, lambda store: store.put("k", OLD))
    break_journal(home)
    damaged = {name: (home / name).read_bytes() for name in FILES}
    with installed(Points()) as whole:
        run(copy(home, tmp_path / "whole"), lambda store: recover(store._session))
    for at in range(1, len(whole.seen) + 1):
        copied = copy(home, tmp_path / "copy")
        crash(at, partial(run, copied, lambda store: recover(store._session)))
        for name, data in damaged.items():
            there = [path.read_bytes() for path in copied.glob(f"{name}*") if not path.name.endswith(".new")]
            assert data in there, f"{name} is gone after a crash at point {at}, {whole.seen[at - 1]}"


def test_a_new_home_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    old = tmp_path / "old"
    Store.create(old, pad_size=PAD).close()
    run(old, lambda store: [store.put(key, value) for key, value in OTHER.items()])
    options: dict[str, Any] = {"network": f"dir://{old / 'pads'}", "key_file": old / "key"}
    with installed(Points()) as whole:
        Store.recover(tmp_path / "whole", **options)
    for at in spread(len(whole.seen), 60):
        home = tmp_path / f"home{at}"
        crash(at, partial(Store.recover, home, **options))
        try:
            Store.open(home).close()
        except (NoStore, Damaged):
            Store.recover(home, **options)
        with Store.open(home) as store:
            assert {key: store[key] for key in store} == OTHER
