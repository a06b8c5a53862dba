"""``store.open`` for writing: published whole, by a clean close."""

from __future__ import annotations

import random
import tracemalloc
import zipfile
from collections.abc import Callable
from concurrent.futures import Future
from errno import ENOSPC
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import AnthillError
from anthill_sync.errors import (
    KeyExists,
    NoRoom,
    PutFailed,
)
from anthill_sync.spool import HELD
from tests.store_tools import CHUNK, StoreRig, chunks_of, permanent
from tests.support import PATIENCE, fail_durable

pytest_plugins = ["tests.store_fixtures"]

Background = Callable[[Callable[[], Any]], "Future[Any]"]


# -- writing: published by a clean close


@pytest.mark.parametrize("size", [0, 1, CHUNK, 3 * CHUNK + 1, HELD, HELD + 1, 3 * HELD + 5])
@pytest.mark.parametrize("piece", [977, 5 * HELD])
def test_what_was_written_is_the_value_once_it_is_closed(each: StoreRig, size: int, piece: int) -> None:
    data = random.Random(size).randbytes(size)
    each.store["a"] = b"old"
    value = each.store.open("a", "wb", attributes={"kind": "file"})
    for at in range(0, size, piece):
        assert value.write(memoryview(data)[at : at + piece]) == len(data[at : at + piece])
    assert value.tell() == size
    assert each.store["a"] == b"old"
    value.close()
    value.close()
    assert value.entry is not None
    assert (value.entry, value.entry.attributes) == (each.store.stat("a"), {"kind": "file"})
    each.assert_sound(a=data)
    with pytest.raises(ValueError, match="closed"):
        value.write(b"more")


def test_a_writer_seeks_as_the_builtin_one(rig: StoreRig, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    for size in (100, HELD // 2, 2 * HELD):
        with open(tmp_path / "file", "wb") as file, rig.store.open("a", "wb") as value:
            for _ in range(40):
                at, whence = chance.choice([(chance.randrange(size), 0), (chance.randrange(size // 9), 2), (0, 1), (0, 2)])
                assert value.seek(at, whence) == file.seek(at, whence)
                data = chance.randbytes(chance.choice([0, 1, 50, size // 3]))
                assert value.write(data) == file.write(data)
                assert value.tell() == file.tell()
            with pytest.raises(ValueError, match="negative"):
                value.seek(-1)
        assert rig.store["a"] == (tmp_path / "file").read_bytes()


def test_a_zip_archive_is_written_and_read_in_place(rig: StoreRig) -> None:
    with rig.store.open("a.zip", "wb") as value, zipfile.ZipFile(value, "w") as archive:
        archive.writestr("one", b"1" * 50_000)
        archive.writestr("two", b"2")
    with rig.store.open("a.zip", "rb") as stored, zipfile.ZipFile(stored) as archive:
        assert archive.testzip() is None
        assert archive.read("two") == b"2"


def test_events_and_questions_of_a_put_come_with_the_close(rig: StoreRig) -> None:
    events: list[Any] = []
    with rig.store.open("a", "w", on_event=events.append, max_pads=9) as value:
        value.write("x" * CHUNK)
        assert events == []
    assert type(events[-1]).__name__ == "StoreComplete"
    with pytest.raises(AnthillError) as caught, rig.store.open("b", "wb", max_pads=0) as value:
        value.write(chunks_of(*range(9)))
    assert caught.value.exit_code == 73
    rig.assert_sound(a=b"x" * CHUNK)


def test_any_number_of_values_can_be_open_while_the_store_changes(rig: StoreRig) -> None:
    """No lock is held while the caller takes its time, so nothing here waits for itself."""
    first, second, other = rig.store.open("a", "w"), rig.store.open("a", "w"), rig.store.open("b", "wb")
    for value, text in ((first, "1"), (second, "2")):
        value.write(text)
    other.write(chunks_of(1, 2))
    rig.store["a"] = b"0"
    rig.store.delete("a")
    other.close()
    second.close()
    assert rig.store["a"] == b"2"
    first.close()
    rig.assert_sound(a=b"1", b=chunks_of(1, 2))


def test_writing_needs_a_bounded_memory_and_leaves_no_file(rig: StoreRig) -> None:
    piece = bytes(100_000)
    before = sorted(rig.home.iterdir())
    tracemalloc.start()
    with rig.store.open("a", "wb") as value:
        for _ in range(300):
            value.write(piece)
        assert tracemalloc.get_traced_memory()[1] < 4 * 1024 * 1024
        tracemalloc.stop()
        assert sorted(rig.home.iterdir()) == before, "the file has no name"
        value.discard()


def test_a_full_disk_is_said_when_it_is_full_and_the_old_value_stays(rig: StoreRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.store["a"] = b"old"
    with monkeypatch.context() as patch:
        fail_durable(patch, "write_at", ENOSPC)
        with pytest.raises(NoRoom) as caught, rig.store.open("a", "wb") as value:
            value.write(bytes(HELD + 1))
    assert caught.value.exit_code == 73
    assert value.closed
    rig.assert_sound(a=b"old")


def test_a_put_that_fails_is_raised_by_the_close_and_the_handle_is_closed(rig: StoreRig) -> None:
    rig.store["a"] = b"old"
    rig.faulty.fail("write", permanent, times=99)
    value = rig.store.open("a", "wb")
    value.write(chunks_of(1, 2))
    with pytest.raises(PutFailed):
        value.close()
    assert value.closed
    value.close()
    assert value.entry is None
    rig.mend()
    rig.assert_sound(a=b"old")


# -- exclusive


def test_x_is_refused_at_once_where_there_is_a_value(rig: StoreRig) -> None:
    rig.store["a"] = b"old"
    with pytest.raises(KeyExists):
        rig.store.open("a", "x")
    with rig.store.open("b", "x") as value:
        value.write("new")
    rig.assert_sound(a=b"old", b=b"new")


def test_of_many_that_create_a_key_at_once_exactly_one_does(rig: StoreRig, background: Background) -> None:
    values = [rig.store.open("a", "xb") for _ in range(8)]
    for number, value in enumerate(values):
        value.write(bytes([number]) * (CHUNK + number))
    ends = [background(value.close) for value in values]
    errors = [end.exception(PATIENCE) for end in ends]
    (winner,) = [number for number, error in enumerate(errors) if error is None]
    assert all(isinstance(error, KeyExists) for error in errors if error is not None)
    rig.assert_sound(a=bytes([winner]) * (CHUNK + winner))
