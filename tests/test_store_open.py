"""``store.open`` for reading: as the builtin, and only what is needed."""

from __future__ import annotations

import gc
import io
import random
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import KeyNotFound, Store
from anthill_sync.errors import (
    Damaged,
    InvalidArgument,
    PermissionRefused,
    ValueChanged,
)
from anthill_sync.settings import READ_AHEAD
from tests.store_tools import CHUNK, StoreRig, chunks_of
from tests.support import PATIENCE

pytest_plugins = ["tests.store_fixtures"]

Background = Callable[[Callable[[], Any]], "Future[Any]"]


# -- reading


@pytest.mark.parametrize("buffering", [-1, 0, 100, 100_000])
@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, 3 * CHUNK + 7])
def test_a_reader_answers_as_the_builtin_one(each: StoreRig, tmp_path: Path, seed: int, size: int, buffering: int) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(size)
    (tmp_path / "file").write_bytes(data)
    each.store["a"] = data
    with open(tmp_path / "file", "rb") as file, each.store.open("a", "rb", buffering) as value:
        for _ in range(60):
            at, whence = chance.choice([(chance.randrange(size + 9), 0), (-chance.randrange(size + 1), 2), (0, 1)])
            assert value.seek(at, whence) == file.seek(at, whence)
            count = chance.choice([0, 1, 9, CHUNK, -1])
            assert in_full(value, count) == file.read(count)
            assert value.tell() == file.tell()
        assert (value.readable(), value.writable(), value.seekable()) == (True, False, True)
    with pytest.raises(ValueError, match="closed"):
        value.read(1)


def in_full(value: Any, count: int) -> bytes:
    """A raw reader may answer with less than was asked for; the end of a chunk is such a place."""
    if isinstance(value, io.BufferedReader) or count < 0:
        return bytes(value.read(count))
    pieces = []
    while count and (piece := value.read(count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def test_text_is_read_and_written_as_by_the_builtin(rig: StoreRig, tmp_path: Path) -> None:
    text = "eins\nzwei\r\ndrei\rvier: ä€\n" * 2000
    ways: list[dict[str, Any]] = [
        {},
        {"newline": ""},
        {"newline": "\r\n"},
        {"encoding": "utf-16"},
        {"encoding": "ascii", "errors": "ignore"},
    ]
    for how in ways:
        settled: dict[str, Any] = {"encoding": "utf-8", **how}
        with open(tmp_path / "file", "w", **settled) as file, rig.store.open("a", "w", **how) as value:
            file.write(text)
            value.write(text)
            file.writelines(["a\n", "b\n"])
            value.writelines(["a\n", "b\n"])
        assert rig.store["a"] == (tmp_path / "file").read_bytes()
        with open(tmp_path / "file", **settled) as file, rig.store.open("a", **how) as value:
            assert list(value) == list(file)


def test_a_range_reads_only_the_chunks_it_lies_in(rig: StoreRig) -> None:
    rig.store["a"] = chunks_of(*range(9))
    with rig.store.open("a", "rb", 0) as value:
        value.seek(4 * CHUNK + 5)
        with rig.counting() as calls:
            assert value.read(100) == b"\4" * 100
            value.seek(4 * CHUNK)
            assert value.read(100) == b"\4" * 100
        assert calls["read"] == 1
        with rig.counting() as calls:
            value.seek(-1, io.SEEK_END)
            assert value.read(5) == b"\x08"
        assert calls["read"] == 1


def test_reading_in_order_reads_ahead_and_never_further_than_it_may(rig: StoreRig) -> None:
    rig.store["a"] = chunks_of(*range(30))
    with rig.store.open("a", "rb", 0) as value:
        for chunk in range(30):
            assert value.read(CHUNK) == chunks_of(chunk)
            ahead = chunk and min(READ_AHEAD, 29 - chunk)
            assert rig.faulty.calls["read"] <= chunk + 1 + ahead
            for begun in value._ahead._chunks.values():
                begun.result(PATIENCE)
            assert rig.faulty.calls["read"] == chunk + 1 + ahead
        assert len(value._ahead._chunks) <= READ_AHEAD + 1


def test_an_open_value_stays_the_version_it_was(rig: StoreRig) -> None:
    rig.store["a"] = chunks_of(1, 2, 3)
    with rig.store.open("a", "rb") as value:
        rig.store["a"] = b"new"
        assert value.read() == chunks_of(1, 2, 3)
    assert rig.store["a"] == b"new"


def test_a_version_whose_space_was_used_again_is_an_error_and_never_wrong_bytes(rig: StoreRig) -> None:
    rig.store["a"] = chunks_of(1, 2, 3)
    with rig.store.open("a", "rb", 0) as value:
        assert value.read(CHUNK) == chunks_of(1)
        rig.store["a"] = chunks_of(4, 5, 6)
        rig.store["b"] = chunks_of(7, 8, 9)
        with pytest.raises(ValueChanged) as caught:
            value.read(CHUNK)
    assert caught.value.exit_code == 75


def test_damage_is_reported_by_a_reader_too(rigs: Callable[..., StoreRig]) -> None:
    rig = rigs("embedded")
    rig.store["a"] = chunks_of(1, 2)
    path = rig.pad_file((rig.store.stat("a").blocks or ())[1].pad)
    good = path.read_bytes()
    with rig.store.open("a", "rb", 0) as value:
        path.write_bytes(good[:500] + bytes([good[500] ^ 1]) + good[501:])
        assert value.read(CHUNK) == chunks_of(1)
        with pytest.raises(Damaged):
            value.read(1)
        path.write_bytes(good)
        assert value.read(CHUNK) == chunks_of(2), "a failure is not remembered"


def test_a_key_that_is_not_there_is_an_error_when_it_is_opened(rig: StoreRig) -> None:
    for mode in ("r", "rb"):
        with pytest.raises(KeyNotFound):
            rig.store.open("a", mode)


# -- modes


@pytest.mark.parametrize("mode", ["a", "ab", "r+", "rb+", "w+", "x+", "wr", "wx", "rbt", "U", "rr", "", "b", "t", "z"])
def test_a_mode_that_cannot_be_is_refused_at_once(rig: StoreRig, mode: str) -> None:
    rig.store["a"] = b"old"
    for key in ("a", "none"):
        with pytest.raises(ValueError, match="mode") as caught:
            rig.store.open(key, mode)
        assert isinstance(caught.value, InvalidArgument)
    rig.assert_sound(a=b"old")


@pytest.mark.parametrize(
    "how",
    [{"encoding": "utf-8"}, {"errors": "ignore"}, {"newline": ""}],
)
def test_binary_modes_refuse_what_is_for_text(rig: StoreRig, how: Any) -> None:
    rig.store["a"] = b"old"
    for mode in ("rb", "wb", "xb"):
        with pytest.raises(ValueError, match="text"):
            rig.store.open("a", mode, **how)


def test_text_modes_refuse_what_cannot_be_and_leave_nothing_open(rig: StoreRig) -> None:
    rig.store["a"] = b"old"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for error, how in ((ValueError, {"buffering": 0}), (ValueError, {"newline": "x"}), (LookupError, {"encoding": "none"})):
            for mode in ("r", "w"):
                with pytest.raises(error):
                    rig.store.open("a", mode, **how)
        gc.collect()
    with pytest.raises(InvalidArgument, match="max_pads"):
        rig.store.open("a", "r", max_pads=1)
    rig.assert_sound(a=b"old")


def test_open_of_the_class_still_opens_a_store(rig: StoreRig) -> None:
    rig.store["a"] = b"1"
    rig.store.close()
    with Store.open(rig.home, read_only=True) as store:
        assert list(store) == ["a"]
        for mode in ("w", "xb"):
            with pytest.raises(PermissionRefused):
                store.open("b", mode)
