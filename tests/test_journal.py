"""The journal: what was appended is there after any crash, and readers see whole batches only."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from anthill_sync import Store, durable, journal
from anthill_sync.errors import (
    AnthillError,
    LocalIOError,
    NoRoom,
    StoreClosed,
)
from anthill_sync.journal import JOURNAL_NAME, SNAPSHOT_NAME, Journal
from anthill_sync.lines import first_line, scan
from tests.journal_tools import ends, run_of, seen, state
from tests.support import PATIENCE, fail_durable, record_durable, run_threads

pytest_plugins = ["tests.journal_fixtures"]


# -- appending


def test_what_is_appended_is_synced_before_it_is_applied(
    home: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = opened()
    writer.take(0)
    runs: list[int] = []
    real = durable.sync

    def looking(fd: int) -> None:
        runs.append(writer.index.run)
        real(fd)

    monkeypatch.setattr(durable, "sync", looking)
    writer.append([run_of(1)])
    assert (runs, writer.index.run) == ([0], 1)
    assert b'"run":[1,' in seen(home)


def test_everything_that_waits_goes_into_one_line_with_one_sync(
    home: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = opened()
    writer.take(0)
    calls = record_durable(monkeypatch)
    real, entered, go = durable.sync, threading.Event(), threading.Event()

    def held(fd: int) -> None:
        entered.set()
        assert go.wait(PATIENCE)
        real(fd)

    monkeypatch.setattr(durable, "sync", held)

    def lead() -> None:
        writer.append([["remove", [], [1000]]])

    def follow(pad: int) -> Callable[[], object]:
        return lambda: writer.append([["remove", [], [pad]]])

    def release() -> None:
        assert entered.wait(PATIENCE)
        while len(writer._commits._waiting) < 12:
            threading.Event().wait(0.001)
        go.set()

    leader = threading.Thread(target=lead)
    leader.start()
    assert entered.wait(PATIENCE)
    run_threads([*(follow(pad) for pad in range(12)), release], threads=13)
    leader.join(PATIENCE)
    assert [name for name, _ in calls] == ["write_all", "sync", "write_all", "sync"]
    batches = scan((home / JOURNAL_NAME).read_bytes(), "journal").batches
    assert [len(records) for _, records in batches] == [1, 12]
    assert writer.index.to_rewrite == {*range(12), 1000}


def test_threads_that_are_about_to_append_get_the_interpreter_before_a_line_is_written(
    home: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = opened()
    writer.take(0)
    writer._commits._crowded = 1  # as after a line that several threads had a part in
    others: list[threading.Thread] = []

    def give_up(seconds: float) -> None:
        """In which another thread comes to append."""
        assert seconds == 0
        if not others:
            others.append(threading.Thread(target=lambda: writer.append([["remove", [], [2]]])))
            others[0].start()
            while len(writer._commits._waiting) < 2:
                threading.Event().wait(0.001)

    monkeypatch.setattr(time, "sleep", give_up)
    writer.append([["remove", [], [1]]])
    others[0].join(PATIENCE)
    assert scan((home / JOURNAL_NAME).read_bytes(), "journal").batches == [(1, [["remove", [], [1]], ["remove", [], [2]]])]
    assert seen(home) == state(writer.index)


def test_a_thread_alone_does_not_wait_for_others(opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch) -> None:
    writer = opened()
    writer.take(0)
    writer._commits._crowded = 1
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    for run in range(1, 5):
        writer.append([run_of(run)])
    assert pauses == [0], "once, while it still counted that others were here"


def test_an_interrupt_before_a_line_is_gathered_withdraws_its_record_alone(
    home: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = opened()
    writer.take(0)

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    writer._commits._crowded = 1
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.append([["remove", [], [1]]])
    writer.append([["remove", [], [2]]])
    assert (writer.failure, writer.index.to_rewrite) == (None, {2})
    assert seen(home) == state(writer.index)


def test_many_threads_append_and_every_record_is_there_once(home: Path, opened: Callable[[], Journal]) -> None:
    writer = opened()
    writer.take(0)
    jobs = [lambda pad=pad: writer.append([["remove", [], [pad]], ["writing", [pad]]]) for pad in range(200)]
    run_threads(jobs, threads=16)
    records = [record for _, batch in scan((home / JOURNAL_NAME).read_bytes(), "journal").batches for record in batch]
    assert sorted(record[2][0] for record in records if record[0] == "remove") == list(range(200))
    for first, second in pairwise(records):
        assert first[0] != "remove" or second == ["writing", first[2]], "one caller's records stay together"
    assert seen(home) == state(writer.index)


def test_append_tells_each_caller_what_its_own_records_freed(home: Path, opened: Callable[[], Journal]) -> None:
    writer = opened()
    writer.take(0)
    block = ["AAAAAAAAAAAAAAAAAAAAAA", 0, 32, 100, "AAAAAAAAAAAAAAAAAAAAAA"]
    assert writer.append([["publish", "k", 5, 1, 7, None, 0, [block], [], 1]]).extents == []
    assert writer.append([["remove", ["k"], []]]).extents == [(0, 32, 100)]


def test_a_line_names_the_offset_that_was_synced_before_it(home: Path, opened: Callable[[], Journal]) -> None:
    writer = opened()
    writer.take(0)
    for run in (1, 2, 3):
        writer.append([run_of(run)])
    writer.release([])
    data = (home / JOURNAL_NAME).read_bytes()
    named = [json.loads(line).get("y") for line in data.splitlines()]
    assert named == [None, 0, *ends(data)[1:4]]


def test_only_the_writer_appends(home: Path, opened: Callable[[], Journal]) -> None:
    with pytest.raises(StoreClosed):
        opened().append([run_of(1)])


# -- taking and giving back


def test_an_idle_journal_is_taken_without_a_write(
    home: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = opened()
    writer.take(0)
    writer.append([run_of(1)])
    writer.release([])
    calls = record_durable(monkeypatch)
    other = opened()
    assert other.take(0)
    other.release([])
    assert calls == []


def test_the_idle_line_is_not_synced_and_keeps_pads_in_doubt(
    home: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = opened()
    writer.take(0)
    writer.append([["writing", [1, 2, 3]]])
    calls = record_durable(monkeypatch)
    writer.release([2])
    assert [name for name, _ in calls] == ["write_all"]
    reader = opened()
    reader.refresh()
    assert reader.index.writing == {2}


def test_a_journal_that_was_not_left_idle_is_checkpointed_before_it_is_built_upon(
    home: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = opened()
    writer.take(0)
    writer.append([run_of(1)])
    writer.give_up()
    calls = record_durable(monkeypatch)
    other = opened()
    other.take(0)
    assert ("rename", home / SNAPSHOT_NAME) in calls
    assert (home / JOURNAL_NAME).read_bytes() == first_line(1)[0]
    assert other.index.run == 1


def test_a_journal_taken_again_unchanged_says_so(home: Path, opened: Callable[[], Journal]) -> None:
    writer, other = opened(), opened()
    assert writer.take(0)
    writer.append([run_of(1)])
    writer.release([])
    assert not writer.take(0)
    writer.release([])
    other.take(0)
    other.append([run_of(2)])
    other.release([])
    assert writer.take(0)
    assert writer.index.run == 2


# -- readers


def test_a_reader_sees_whole_batches_only_while_a_line_is_being_written(
    home: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = opened(), opened()
    writer.take(0)
    reader.refresh()
    looks: list[int] = []

    def in_pieces(fd: int, data: bytes) -> None:
        for at in range(len(data)):
            os.write(fd, data[at : at + 1])
            reader.refresh()
            looks.append(reader.index.run + len(reader.index.to_rewrite))

    monkeypatch.setattr(durable, "write_all", in_pieces)
    writer.append([run_of(1), ["remove", [], [5]]])
    assert looks == [0] * (len(looks) - 1) + [2]
    assert state(reader.index) == state(writer.index)


def test_readers_and_a_checkpointing_writer_agree_at_every_look(
    home: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "CHECKPOINT_BYTES", 1500 // journal.BUSY_FACTOR)
    writer = opened()
    writer.take(0)
    begun, over = threading.Event(), threading.Event()

    def write() -> int:
        try:
            assert begun.wait(PATIENCE)
            for run in range(1, 400):
                writer.append([run_of(run), ["remove", [], [run]]])
        finally:
            over.set()
        return 0

    def read() -> int:
        reader, last, looks = opened(), 0, 0
        while not over.is_set():
            reader.refresh()
            run = reader.index.run
            assert run == reader.index.sequence == len(reader.index.to_rewrite), "half a batch"
            assert run >= last, "back in time"
            last, looks = run, looks + 1
            begun.set()
        reader.refresh()
        assert reader.index.run == 399
        return looks

    assert sum(run_threads([write, read, read], threads=3)) > 0


def test_reading_takes_no_lock_and_writes_nothing(home: Path, opened: Callable[[], Journal]) -> None:
    writer = opened()
    writer.take(0)
    writer.append([run_of(1)])
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    reader = opened()
    assert reader.refresh()
    assert not reader.refresh()
    assert not reader.held
    assert {path.name: path.read_bytes() for path in home.iterdir()} == before


# -- failures


@pytest.mark.parametrize("step", ["write_all", "sync"])
@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EIO, LocalIOError), (errno.ENOSPC, NoRoom), (errno.EDQUOT, NoRoom), (errno.EFBIG, NoRoom)]
)
def test_a_failed_write_or_sync_closes_the_store_and_is_never_tried_again(
    home: Path,
    opened: Callable[[], Journal],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    number: int,
    kind: type[AnthillError],
) -> None:
    writer = opened()
    writer.take(0)
    writer.append([run_of(1)])
    with monkeypatch.context() as patch:
        fail_durable(patch, step, number)
        with pytest.raises(kind) as caught:
            writer.append([run_of(2)])
    assert writer.index.run == 1, "applied although not durable"
    calls = record_durable(monkeypatch)
    with pytest.raises(StoreClosed, match="closed itself") as closed:
        writer.append([run_of(3)])
    assert {caught.value.exit_code, closed.value.exit_code} == {73 if kind is NoRoom else 74}
    writer.release([])
    assert calls == [], "something was written after the failure"
    survivor = opened()
    survivor.take(0)
    assert survivor.index.run == (1 if step == "write_all" else 2)  # an unsynced line may be there: nobody was told


def test_everyone_who_waits_hears_of_the_failure(
    home: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = opened()
    writer.take(0)
    fail_durable(monkeypatch, "sync", errno.EIO)

    def attempt() -> type[BaseException]:
        with pytest.raises(AnthillError) as caught:
            writer.append([["remove", [], [1]]])
        assert caught.value.exit_code == 74
        return type(caught.value)

    kinds = run_threads([attempt] * 8, threads=8)
    assert set(kinds) <= {LocalIOError, StoreClosed}


def test_a_line_written_in_part_is_a_torn_tail(
    home: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = opened()
    writer.take(0)
    writer.append([run_of(1)])

    def half(fd: int, data: bytes) -> None:
        os.write(fd, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_all", half)
        with pytest.raises(NoRoom):
            writer.append([run_of(2)])
    writer.release([])
    survivor = opened()
    survivor.take(0)
    survivor.append([run_of(2)])
    assert seen(home) == state(survivor.index)


def test_a_record_that_is_no_json_harms_only_its_caller(home: Path, opened: Callable[[], Journal]) -> None:
    writer = opened()
    writer.take(0)
    with pytest.raises(TypeError):
        writer.append([["remove", [], object()]])
    writer.append([run_of(1)])
    assert seen(home) == state(writer.index)


# -- bytes


@pytest.mark.parametrize("chunks", [40, 160])
def test_journal_bytes_per_pad_do_not_grow_with_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunks: int) -> None:
    written = 0
    real = durable.write_all

    def counting(fd: int, data: bytes) -> None:
        nonlocal written
        written += len(data)
        real(fd, data)

    monkeypatch.setattr(journal, "CHECKPOINT_BYTES", 4096)  # so that checkpoints are part of it
    with Store.create(tmp_path / "home", network="memory://", pad_size=16 * 1024) as store:
        monkeypatch.setattr(durable, "write_all", counting)
        store.put("k", bytes(chunks * 15 * 1024))
    assert written / chunks < 1500
