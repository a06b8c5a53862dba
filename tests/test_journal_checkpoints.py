"""Checkpoints: snapshot, then journal, and nothing is lost wherever one ends."""

from __future__ import annotations

import errno
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import durable, journal
from anthill_sync.errors import LocalIOError, NoRoom
from anthill_sync.journal import JOURNAL_NAME, LOCK_NAME, SNAPSHOT_NAME, Journal
from tests.journal_tools import run_of, seen, state
from tests.support import fail_durable, record_durable

pytest_plugins = ["tests.journal_fixtures"]

KILLED = SystemExit("killed here")  # a BaseException, as a signal would be


CHECKPOINT = [
    ("remove", SNAPSHOT_NAME + ".new"),
    ("open_new", SNAPSHOT_NAME + ".new"),
    ("write_all", None),  # once per line
    ("sync", None),
    ("rename", SNAPSHOT_NAME),
    ("sync_folder", ""),
    ("remove", JOURNAL_NAME + ".new"),
    ("open_new", JOURNAL_NAME + ".new"),
    ("write_all", None),
    ("sync", None),
    ("rename", JOURNAL_NAME),
    ("sync_folder", ""),
]


def test_a_checkpoint_replaces_snapshot_then_journal_each_synced_before_its_rename(
    home: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = opened()
    writer.take(0)
    writer.append([run_of(1)])
    calls = record_durable(monkeypatch)
    writer.checkpoint()
    steps = [(name, None if isinstance(where, int) else str(where.relative_to(home))) for name, where in calls]
    assert [step for step, following in pairwise([*steps, ("end", "")]) if step != following] == [
        (name, "." if where == "" else where) for name, where in CHECKPOINT
    ]
    writer.append([run_of(2)])
    assert seen(home) == state(writer.index)


@pytest.mark.parametrize("step", range(len(CHECKPOINT) + 1))
def test_a_crash_at_any_step_of_a_checkpoint_loses_nothing(
    home: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    writer = opened()
    writer.take(0)
    writer.append([run_of(1)])
    writer.append([["remove", [], [7]]])
    before, reader = state(writer.index), opened()
    reader.refresh()
    with monkeypatch.context() as patch:
        killed_at(patch, step)
        if step < len(CHECKPOINT):
            with pytest.raises(SystemExit):
                writer.checkpoint()
        else:
            writer.checkpoint()
    writer.close()  # the kernel does as much for a killed process
    reader.refresh()
    assert seen(home) == state(reader.index) == before
    survivor = opened()
    survivor.take(0)
    survivor.append([run_of(2)])
    survivor.release([])
    reader.refresh()
    assert seen(home) == state(survivor.index) == state(reader.index)
    assert {path.name for path in home.iterdir()} == {SNAPSHOT_NAME, JOURNAL_NAME, LOCK_NAME}


def killed_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """Die before this step of CHECKPOINT."""
    reached: list[str] = []

    def dying(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if not (name == "write_all" and reached and reached[-1] == name):  # the snapshot's further lines are one step
                reached.append(name)
            if len(reached) > step:
                raise KILLED
            return real(*arguments)

        return call

    for name in {name for name, _ in CHECKPOINT}:
        patch.setattr(durable, name, dying(name, getattr(durable, name)))


def test_a_journal_that_has_outgrown_its_snapshot_is_checkpointed(
    home: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "CHECKPOINT_BYTES", 2000 // journal.BUSY_FACTOR)
    writer = opened()
    writer.take(0)
    sizes = []
    for run in range(1, 60):
        writer.append([run_of(run)])
        sizes.append((home / JOURNAL_NAME).stat().st_size)
    assert max(sizes) <= 2000
    assert sum(later < earlier for earlier, later in pairwise(sizes)) >= 3
    assert seen(home) == state(writer.index)


def test_a_run_ends_with_a_journal_of_at_most_a_quarter_of_the_snapshot(
    home: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So most of an opening is reading the snapshot, and each snapshot is paid for by a quarter of its bytes of journal."""
    monkeypatch.setattr(journal, "CHECKPOINT_BYTES", 100)
    writer = opened()
    writer.take(0)
    writer.append([["reserving", 0, 99]])
    writer.checkpoint()
    writer.release([])
    before, checkpoints = (home / SNAPSHOT_NAME).stat(), 0
    for run in range(1, 60):
        writer.take(0)
        writer.append([run_of(run)])
        grown = (home / JOURNAL_NAME).stat().st_size
        writer.release([])
        after = (home / SNAPSHOT_NAME).stat()
        if after.st_ino == before.st_ino:
            assert (home / JOURNAL_NAME).stat().st_size <= after.st_size / 4
        else:
            assert grown + 100 > before.st_size / 4, "with the line that ends the run"
            before, checkpoints = after, checkpoints + 1
    assert checkpoints > 3
    assert seen(home) == state(writer.index)


def test_a_short_journal_is_kept_and_a_long_one_ends_with_its_run(
    home: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it goes on the journal may grow further; whoever opens the store next does not have to read all that."""
    monkeypatch.setattr(journal, "CHECKPOINT_BYTES", 1000)
    writer = opened()
    writer.take(0)
    for run in range(1, 20):
        writer.append([run_of(run)])
    before, grown = (home / SNAPSHOT_NAME).stat(), (home / JOURNAL_NAME).stat().st_size
    assert 1000 < grown < 1000 * journal.BUSY_FACTOR
    writer.release([3])
    assert (home / JOURNAL_NAME).stat().st_size < 100
    assert (home / SNAPSHOT_NAME).stat().st_ino != before.st_ino
    assert seen(home) == state(writer.index)
    assert (writer.index.run, writer.index.writing) == (19, {3})
    other = opened()
    other.take(0)
    other.append([run_of(20)])
    size = (home / JOURNAL_NAME).stat().st_size
    other.release([3])
    assert (home / JOURNAL_NAME).stat().st_size > size, "a short one is only ended"


def test_a_run_that_cannot_end_with_a_checkpoint_gives_the_lock_back_and_closes(
    home: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "CHECKPOINT_BYTES", 100)
    writer = opened()
    writer.take(0)
    writer.append([run_of(1)])
    with monkeypatch.context() as patch:
        fail_durable(patch, "open_new", errno.ENOSPC)
        writer.release([])
    assert isinstance(writer.failure, NoRoom)
    other = opened()
    assert other.take(0)
    assert state(other.index) == seen(home)
    assert other.index.run == 1


def test_a_reader_notices_a_new_journal_even_when_it_is_as_long_as_the_old_one(home: Path, opened: Callable[[], Journal]) -> None:
    writer, reader = opened(), opened()
    writer.take(0)
    writer.checkpoint()
    writer.append([run_of(1)])
    reader.refresh()
    size = (home / JOURNAL_NAME).stat().st_size
    writer.checkpoint()
    writer.append([run_of(2)])
    assert (home / JOURNAL_NAME).stat().st_size == size
    reader.refresh()
    assert state(reader.index) == state(writer.index)


@pytest.mark.parametrize("step", range(len(CHECKPOINT)))
def test_a_reader_that_opens_in_the_middle_of_a_checkpoint_sees_the_whole_index(
    home: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    writer, reader = opened(), opened()
    writer.take(0)
    writer.append([run_of(1)])
    reader.refresh()
    before, found = state(writer.index), []
    name, _ = CHECKPOINT[step]
    real = getattr(durable, name)

    def looking(*arguments: Any) -> Any:
        found.append(seen(home))
        reader.refresh()
        return real(*arguments)

    monkeypatch.setattr(durable, name, looking)
    writer.checkpoint()
    assert found
    assert set(found) == {before}
    assert state(reader.index) == before


@pytest.mark.parametrize("step", ["open_new", "write_all", "sync", "rename", "sync_folder"])
def test_a_failed_checkpoint_closes_the_store_and_loses_nothing(
    home: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    writer = opened()
    writer.take(0)
    writer.append([run_of(1)])
    writer.give_up()
    other = opened()
    with monkeypatch.context() as patch:
        fail_durable(patch, step, errno.EIO)
        with pytest.raises(LocalIOError):
            other.take(0)
    assert other.failure is not None
    assert not other.held
    assert b'"run":[1,' in seen(home)
