"""A journal cut, changed or reordered anywhere: a state that was, or an error; never another state."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import pytest

from anthill_sync import Store
from anthill_sync.errors import (
    AnthillError,
    IndexDamaged,
    LocalIOError,
    PermissionRefused,
)
from anthill_sync.journal import JOURNAL_NAME, SNAPSHOT_NAME, Journal
from anthill_sync.lines import first_line, load_snapshot, scan
from tests.journal_tools import ends, expected, run_of, seen, state, states

pytest_plugins = ["tests.journal_fixtures"]


@lru_cache(maxsize=1)
def realistic(folder: Path) -> tuple[bytes, bytes]:
    """Snapshot and journal of a store that put, updated, renamed and removed in two runs."""
    home = folder / "realistic"
    few = {"reserve_threads": 2, "upload_threads": 2}
    with Store.create(home, network="memory://", pad_size=16 * 1024, settings=few) as store:
        store.put("big", bytes(40_000))
        store.put_many({"a": b"1", "b/träger": b"2"})
        store.put("a", b"3", attributes={"mode": 420})
    with Store.open(home, settings=few) as store:
        store.rename("a", "c")
        store.delete("big")
    return (home / SNAPSHOT_NAME).read_bytes(), (home / JOURNAL_NAME).read_bytes()


@pytest.fixture
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    return realistic(tmp_path_factory.getbasetemp())


def lay(home: Path, snapshot: bytes, data: bytes) -> None:
    (home / SNAPSHOT_NAME).write_bytes(snapshot)
    (home / JOURNAL_NAME).write_bytes(data)


def test_the_realistic_journal_has_every_usual_record(files: tuple[bytes, bytes]) -> None:
    names = {record[0] for _, records in scan(files[1], "journal").batches for record in records}
    assert names >= {"run", "reserving", "reserved", "writing", "begin", "committed", "publish", "rename", "remove", "idle"}


def test_a_journal_cut_at_any_byte_replays_to_a_complete_line(files: tuple[bytes, bytes], home: Path) -> None:
    snapshot, data = files
    known, offsets = states(snapshot, data), ends(data)
    for cut in range(offsets[0], len(data) + 1):
        lay(home, snapshot, data[:cut])
        complete = sum(end <= cut for end in offsets) - 1
        assert seen(home) == known[complete], f"cut at {cut}"


def test_a_journal_cut_inside_its_first_line_is_damaged_and_left_alone(files: tuple[bytes, bytes], home: Path) -> None:
    for cut in range(ends(files[1])[0]):
        lay(home, files[0], files[1][:cut])
        writer = Journal(home)
        with pytest.raises(IndexDamaged):
            writer.take(0)
        writer.close()
        assert (home / JOURNAL_NAME).read_bytes() == files[1][:cut]


def test_a_torn_tail_is_cut_off_reported_and_built_upon(
    files: tuple[bytes, bytes], home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot, data = files
    known, offsets = states(snapshot, data), ends(data)
    for line, (begin, end) in enumerate(pairwise(offsets)):
        for cut in (begin + 1, (begin + end) // 2, end - 1):
            caplog.clear()
            lay(home, snapshot, data[:cut])
            writer = Journal(home)
            writer.take(0)
            assert state(writer.index) == known[line]
            assert f"cut off a torn tail of {cut - begin} bytes" in caplog.text
            writer.append([run_of(writer.index.run + 1)])
            writer.release([])
            writer.close()
            assert scan((home / JOURNAL_NAME).read_bytes(), "journal").torn == 0
            assert f'"run":[{writer.index.run},'.encode() in seen(home)


def outcome(home: Path) -> bytes | None:
    """The state a reader finds; None for reported damage."""
    try:
        return seen(home)
    except IndexDamaged:
        return None


def test_every_changed_byte_is_damage_or_a_torn_tail_and_never_another_state(files: tuple[bytes, bytes], home: Path) -> None:
    snapshot, data = files
    known, original = states(snapshot, data), data.split(b"\n")[:-1]
    healed = 0
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ (0x01 if at % 2 else 0x20)]) + data[at + 1 :]
        lay(home, snapshot, changed)
        found = outcome(home)
        assert found == expected(changed, known, original), f"byte {at}"
        healed += found is not None
    assert healed == len(original[-1]) + 1, "only the line that nothing synced came after may heal"


def test_a_crashed_writer_s_last_line_may_heal_and_nothing_before_it(files: tuple[bytes, bytes], home: Path) -> None:
    snapshot, data = files
    data = data[: ends(data)[-2]]  # without the last idle line: the writer was killed
    known, original = states(snapshot, data), data.split(b"\n")[:-1]
    for at in range(ends(data)[-3], len(data)):
        changed = data[:at] + bytes([data[at] ^ 0x01]) + data[at + 1 :]
        lay(home, snapshot, changed)
        assert outcome(home) == expected(changed, known, original), f"byte {at}"


def test_swapped_doubled_and_missing_lines_never_give_another_state(files: tuple[bytes, bytes], home: Path) -> None:
    snapshot, data = files
    known, lines = states(snapshot, data), data.splitlines(keepends=True)
    original = [line[:-1] for line in lines]
    for at in range(len(lines) - 1):
        head, one, two, tail = lines[:at], lines[at], lines[at + 1], lines[at + 2 :]
        for changed in ([*head, two, one, *tail], [*head, one, one, two, *tail], [*head, two, *tail]):
            lay(home, snapshot, b"".join(changed))
            found = outcome(home)
            assert found == expected(b"".join(changed), known, original)
            assert found is None or at >= len(lines) - 3


def test_damage_is_reported_to_a_writer_too_and_nothing_is_overwritten(files: tuple[bytes, bytes], home: Path) -> None:
    snapshot, data = files
    at = ends(data)[3] + 10
    changed = data[:at] + b"#" + data[at + 1 :]
    lay(home, snapshot, changed)
    writer = Journal(home)
    with pytest.raises(IndexDamaged, match="nothing was overwritten"):
        writer.take(0)
    assert not writer.held
    assert (home / JOURNAL_NAME).read_bytes() == changed
    assert (home / SNAPSHOT_NAME).read_bytes() == snapshot


def test_an_older_snapshot_or_journal_does_not_fit_the_other(files: tuple[bytes, bytes], home: Path) -> None:
    snapshot, data = files
    index = load_snapshot(snapshot, "snapshot")
    index.sequence += 2
    lay(home, snapshot, first_line(index.sequence)[0])
    with pytest.raises(IndexDamaged, match="begins after sequence"):
        seen(home)
    line = data.splitlines(keepends=True)
    lay(home, snapshot, line[0] + resealed(line[2], json.loads(line[0])["c"]))
    with pytest.raises(IndexDamaged, match="lines are missing"):
        seen(home)


def resealed(line: bytes, previous: str) -> bytes:
    """The line as if it followed another one."""
    from anthill_sync.lines import batch_line, encode_records

    fields = json.loads(line)
    return batch_line(fields["s"], previous, 0, [encode_records(fields["r"])])[0]


@pytest.mark.parametrize("name", [SNAPSHOT_NAME, JOURNAL_NAME])
def test_a_missing_file_is_damage(home: Path, name: str) -> None:
    (home / name).unlink()
    with pytest.raises(IndexDamaged, match="missing"):
        seen(home)


def test_a_record_that_does_not_fit_the_index_is_damage(home: Path, opened: Callable[[], Journal]) -> None:
    writer = opened()
    writer.take(0)
    writer.append([run_of(1)])
    with pytest.raises(LocalIOError):
        writer.append([run_of(1)])
    assert writer.failure is not None
    writer.release([])
    with pytest.raises(IndexDamaged, match="does not fit"):
        seen(home)


# -- a disk that cannot be read


@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, LocalIOError), (errno.EACCES, PermissionRefused)])
def test_a_journal_that_cannot_be_read_is_this_machines_error_and_the_next_look_begins_anew(
    number: int, kind: type[AnthillError], home: Path, opened: Callable[[], Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = opened(), opened()
    writer.take(0)
    reader.refresh()
    writer.append([run_of(1)])

    def failing(*arguments: object) -> bytes:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", failing)
        with pytest.raises(kind, match=JOURNAL_NAME):
            reader.refresh()
    reader.refresh()
    assert reader.index.run == 1
