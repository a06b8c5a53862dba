"""What goes in comes out, byte for byte; and a Store is a mapping that reads no data to answer questions about keys."""

from __future__ import annotations

import ctypes
import io
import os
import random
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anthill_sync.errors import InvalidArgument, KeyExists, KeyNotFound, SourceNotFound
from tests.store_tools import CHUNK, PAD, StoreRig

pytest_plugins = ["tests.store_fixtures"]

SIZES = [0, 1, 2, CHUNK - 1, CHUNK, CHUNK + 1, PAD, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 5 * CHUNK, 30 * CHUNK + 7]


def data_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", SIZES)
def test_a_value_of_any_size_comes_back(each: StoreRig, size: int) -> None:
    data = data_of(size)
    entry = each.store.put("a", data)
    assert (entry.key, entry.size, entry.pads) == ("a", size, -(-size // CHUNK))
    assert each.store["a"] == data
    assert each.reopen()["a"] == data
    each.assert_sound(a=data)


@pytest.mark.parametrize("size", SIZES)
def test_a_stream_of_any_size_comes_back(rig: StoreRig, size: int) -> None:
    data = data_of(size)
    assert rig.store.put("a", io.BytesIO(data)).size == size
    rig.reopen()
    rig.assert_sound(a=data)


def pieces(data: bytes, length: int) -> Iterator[bytes]:
    return (data[i : i + length] for i in range(0, len(data), length))


@pytest.mark.parametrize("length", [1000, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_pieces_of_any_length_make_one_value(rig: StoreRig, length: int) -> None:
    data = data_of(4 * CHUNK + 11)
    rig.store.put("a", pieces(data, length))
    rig.assert_sound(a=data)


def test_a_stream_may_have_empty_pieces(rig: StoreRig) -> None:
    mixed: list[Any] = [b"", b"one", b"", bytearray(b"two"), memoryview(b"three"), b""]
    rig.store.put("a", iter(mixed))
    rig.assert_sound(a=b"onetwothree")


class Trickle(io.RawIOBase):
    """A raw file that gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._data.read(min(len(buffer), 777))
        buffer[: len(piece)] = piece
        return len(piece)


def test_a_binary_file_that_reads_short_is_read_to_its_end(rig: StoreRig) -> None:
    data = data_of(2 * CHUNK + 5)
    rig.store.put("a", Trickle(data))
    rig.assert_sound(a=data)


@pytest.mark.parametrize(
    "source",
    [
        bytearray(b"abcd"),
        memoryview(b"abcd"),
        memoryview(b"a-b-c-d-")[::2],
        memoryview(b"dcba")[::-1],
        memoryview(b"abcd").cast("B", (2, 2)),
        array("B", b"abcd"),
        array("H", array("H", [1, 2])),
        (ctypes.c_uint8 * 4)(*b"abcd"),
        memoryview(b""),
        array("I"),
    ],
    ids=lambda source: type(source).__name__,
)
def test_every_bytes_like_object_is_stored_as_its_bytes(rig: StoreRig, source: Any) -> None:
    rig.store.put("a", source)
    assert rig.store["a"] == bytes(source)


def test_a_fortran_ordered_buffer_is_stored_in_its_logical_order(rig: StoreRig) -> None:
    testbuffer = pytest.importorskip("_testbuffer")
    source = testbuffer.ndarray(list(range(6)), shape=[2, 3], format="B", flags=testbuffer.ND_FORTRAN)
    rig.store.put("a", source)
    assert rig.store["a"] == memoryview(source).tobytes()


def test_a_stream_of_strided_pieces_is_stored_as_their_bytes(rig: StoreRig) -> None:
    strided: list[Any] = [memoryview(b"a-b-")[::2], array("B", b"c")]
    rig.store.put("a", iter(strided))
    assert rig.store["a"] == b"abc"


def test_a_file_is_stored_from_its_path(each: StoreRig, tmp_path: Path) -> None:
    data = data_of(7 * CHUNK + 99)
    (tmp_path / "file").write_bytes(data)
    assert each.store.put("a", tmp_path / "file").size == len(data)
    each.assert_sound(a=data)


def test_an_open_file_is_stored_from_where_it_stands_and_left_open(rig: StoreRig, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"skipped-kept")
    with (tmp_path / "file").open("rb") as file:
        file.seek(8)
        rig.store.put("a", file)
        assert not file.closed
    rig.assert_sound(a=b"kept")


def test_a_fifo_is_read_to_its_end(rig: StoreRig, tmp_path: Path, background: Callable[..., Any]) -> None:
    os.mkfifo(tmp_path / "fifo")
    data = data_of(CHUNK + 3)
    writing = background(lambda: (tmp_path / "fifo").write_bytes(data))
    rig.store.put("a", tmp_path / "fifo")
    assert writing.result(20) == len(data)
    rig.assert_sound(a=data)


@pytest.mark.parametrize("source", ["text", 5, None, 1.5, [1, 2], {"a": b"1"}, ["text"], io.StringIO("text")])
def test_what_is_not_bytes_is_a_type_error_and_stores_nothing(rig: StoreRig, source: Any) -> None:
    with pytest.raises(TypeError):
        rig.store.put("a", source)
    assert len(rig.store) == 0
    assert rig.store.pending() == []


def test_a_str_source_is_told_what_to_write_instead(rig: StoreRig) -> None:
    with pytest.raises(TypeError, match=r"Path\(\.\.\.\).*\.encode\(\)"):
        rig.store["a"] = "text"  # type: ignore[assignment]


def test_a_missing_file_and_a_directory_are_no_sources(rig: StoreRig, tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(SourceNotFound) as caught:
            rig.store.put("a", path)
        assert caught.value.exit_code == 66


def test_put_many_takes_mappings_and_pairs_and_stores_all_kinds_in_one(each: StoreRig, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(data_of(CHUNK + 1))
    items: dict[str, Any] = {"a": b"1", "b": tmp_path / "file", "c": iter([b"3", b"4"]), "d": b""}
    entries = each.store.put_many(items)
    assert list(entries) == ["a", "b", "c", "d"]
    assert list(each.store.put_many([("e", b"5"), ("f", data_of(3 * CHUNK))])) == ["e", "f"]
    each.assert_sound(a=b"1", b=data_of(CHUNK + 1), c=b"34", d=b"", e=b"5", f=data_of(3 * CHUNK))
    assert each.store.put_many({}) == {}


def test_put_many_refuses_a_key_named_twice_before_storing_anything(rig: StoreRig) -> None:
    with pytest.raises(InvalidArgument):
        rig.store.put_many([("a", b"1"), ("b", b"2"), ("a", b"3")])
    assert list(rig.store) == []


def test_if_absent_refuses_before_storing_anything(rig: StoreRig) -> None:
    rig.store["a"] = b"old"
    with rig.counting() as calls, pytest.raises(KeyExists) as caught:
        rig.store.put_many({"b": b"2", "a": b"new"}, if_absent=True)
    assert caught.value.exit_code == 3
    assert not calls
    assert dict(rig.store) == {"a": b"old"}


# -- attributes and versions


def test_attributes_come_back_and_belong_to_their_version(each: StoreRig) -> None:
    attributes = {"mode": 0o640, "mtime_ns": 123456789012345678, "kind": "file", "text": "\N{SNOWMAN}", "list": [1, None]}
    assert each.store.put("a", b"1", attributes=attributes).attributes == attributes
    assert each.reopen().stat("a").attributes == attributes
    each.store.put("a", b"1", attributes={"mode": 1})
    assert each.store.stat("a").attributes == {"mode": 1}
    each.store.put("a", b"1")
    assert each.store.stat("a").attributes == {}


def test_put_many_takes_attributes_by_key(rig: StoreRig) -> None:
    entries = rig.store.put_many({"a": b"1", "b": b"2"}, attributes={"b": {"kind": "link"}})
    assert (entries["a"].attributes, entries["b"].attributes) == ({}, {"kind": "link"})


@pytest.mark.parametrize("attributes", [{"a": "x" * 1017}, {"a": {1, 2}}, {"a": float("nan")}])
def test_attributes_that_are_too_large_or_no_json_are_refused(rig: StoreRig, attributes: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        rig.store.put_many({"a": b"1", "b": b"2"}, attributes={"b": attributes})
    assert list(rig.store) == []


@pytest.mark.parametrize("rest", [1, CHUNK // 2, CHUNK - 700, CHUNK - 1])
def test_the_longest_key_with_the_most_attributes_goes_with_every_remainder(rig: StoreRig, rest: int) -> None:
    key, attributes = "k" * 1024, {"a": "x" * 1016}
    for size in (rest, CHUNK + rest):
        rig.store.put(key, data_of(size), attributes=attributes)
        rig.assert_sound(**{key: data_of(size)})
        rig.store.put(key, data_of(size), attributes={"a": "y" * 1016})
        rig.store.put(key, iter([data_of(size + 1)[1:]]), attributes=attributes)
        rig.assert_sound(**{key: data_of(size + 1)[1:]})
        rig.store.delete(key)


def test_versions_rise_over_the_whole_store_and_over_runs(rig: StoreRig) -> None:
    versions = [rig.store.put(key, b"1").version for key in "abc"]
    rig.reopen()
    versions += [rig.store.put("a", b"2").version, rig.store.rename("a", "z").version, rig.store.put("b", b"2").version]
    assert versions == sorted(set(versions))


# -- a mapping


def test_questions_about_keys_read_the_index_only(each: StoreRig) -> None:
    store = each.store
    store.put_many({"a": b"1", "b": data_of(3 * CHUNK), "c": b""})
    each.reopen()
    with each.counting() as calls:
        store = each.store
        other: Any = 5
        assert ("a" in store, "x" in store, other in store) == (True, False, False)
        assert (len(store), list(store), bool(store), store.keys() >= {"a", "b"}) == (3, ["a", "b", "c"], True, True)
        assert store == store
        assert store != {"a": b"1"}
        assert store.get("x") is None
        assert [entry.key for entry in store.entries()] == ["a", "b", "c"]
        store.stat("b"), store.usage(), store.check(), store.pending(), repr(store), hash(store)
    assert not calls


def test_an_empty_store_is_true(rig: StoreRig) -> None:
    assert rig.store
    assert len(rig.store) == 0


def test_pop_reads_its_one_value_and_clear_reads_none(rig: StoreRig) -> None:
    rig.store.put_many({"a": data_of(2 * CHUNK), "b": data_of(9 * CHUNK), "c": b"3"})
    rig.reopen()
    reads: list[int] = []
    rig.faulty.before("read", lambda seen: reads.append(rig.pad_number(seen.address)))
    mine = {place.pad for place in rig.store.stat("b").blocks or ()}
    assert rig.store.pop("b") == data_of(9 * CHUNK)
    assert rig.store.pop("b", b"default") == b"default"
    with pytest.raises(KeyError):
        rig.store.pop("b")
    kept = {place.pad for key in "ac" for place in rig.store.stat(key).blocks or ()} - set(
        rig.session.allocator.supply.map.spaces
    )
    assert mine <= set(reads)
    assert not kept & set(reads)
    rig.store.clear()
    assert list(rig.store) == []


def test_clear_is_one_step(rig: StoreRig) -> None:
    rig.store.put_many({str(i): b"x" for i in range(50)})
    before = len(rig.durable_records())
    rig.store.clear()
    removed = [record for record in rig.durable_records()[before:] if record[0] == "remove" and record[1]]
    assert len(removed) == 1
    assert len(removed[0][1]) == 50
    rig.store.clear()


def test_the_other_manners_of_a_mapping_work(rig: StoreRig) -> None:
    store = rig.store
    store.update({"a": b"1", "b": b"2"})
    assert (store.setdefault("a", b"9"), store.setdefault("c", b"3")) == (b"1", b"3")
    assert dict(store.items()) == {"a": b"1", "b": b"2", "c": b"3"}
    assert store.popitem() == ("a", b"1")
    del store["b"]
    with pytest.raises(KeyError):
        del store["b"]
    assert sorted(store.values()) == [b"3"]


def test_get_gives_the_default_for_a_missing_key_only(rig: StoreRig) -> None:
    marker = object()
    assert rig.store.get("a", marker) is marker
    rig.store["a"] = b""
    assert rig.store.get("a", marker) == b""
    with pytest.raises(KeyNotFound) as caught:
        rig.store["b"]
    assert isinstance(caught.value, KeyError)
    assert caught.value.exit_code == 66
    with pytest.raises(InvalidArgument):
        rig.store.get("/bad/", marker)
