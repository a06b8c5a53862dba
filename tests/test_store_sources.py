"""A source that fails, changes or raises publishes nothing, and harms nobody it shares a pad with."""

from __future__ import annotations

import io
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anthill_sync.errors import AnthillError, NestedMutation, PermissionRefused, PutFailed, SourceChanged, SourceNotFound
from anthill_sync.events import ConfirmReservation, Event
from anthill_sync.sources import open_source
from tests.store_tools import CHUNK, StoreRig, chunks_of

pytest_plugins = ["tests.store_fixtures"]


class Whim(Exception):
    """What a caller's generator may raise."""


@pytest.mark.parametrize("after", [0, 1, 3, 30])
def test_a_stream_that_raises_publishes_nothing_and_its_error_comes_out_unchanged(each: StoreRig, after: int) -> None:
    whim = Whim("enough")

    def pieces() -> Iterator[bytes]:
        for fill in range(after):
            yield chunks_of(fill)
        raise whim

    each.store["a"] = b"old"
    with pytest.raises(Whim) as caught:
        each.store.put("a", pieces())
    assert caught.value is whim
    each.assert_sound(a=b"old")
    each.store.put("a", chunks_of(*range(after)))
    each.assert_sound(a=chunks_of(*range(after)))


class Failing(io.RawIOBase):
    """A file that fails after some chunks."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece = next(self._pieces, None)
        if piece is None:
            raise Whim("enough")
        return piece


@pytest.mark.parametrize("after", [0, 1, 7])
def test_a_file_that_raises_publishes_nothing(each: StoreRig, after: int) -> None:
    each.store["a"] = b"old"
    with pytest.raises(Whim):
        each.store.put("a", Failing(iter([chunks_of(fill) for fill in range(after)])))
    each.assert_sound(a=b"old")


@pytest.mark.parametrize("piece", ["text", 5, [1]])
def test_a_stream_of_something_else_is_a_type_error_and_publishes_nothing(rig: StoreRig, piece: Any) -> None:
    with pytest.raises(TypeError):
        rig.store.put("a", iter([chunks_of(1), piece]))
    assert "a" not in rig.store


def test_a_stream_that_raises_in_put_many_leaves_what_was_published(rig: StoreRig) -> None:
    def pieces() -> Iterator[bytes]:
        yield chunks_of(1)
        raise Whim

    items: dict[str, Any] = {"a": b"1", "b": chunks_of(2), "c": pieces()}
    with pytest.raises(Whim):
        rig.store.put_many(items)
    assert "c" not in rig.store
    rig.assert_sound(**{key: {"a": b"1", "b": chunks_of(2)}[key] for key in rig.store})


# -- files that change


def change(path: Path, how: str, data: bytes) -> None:
    """Another writer's doing, between the put's first look at the file and its last."""
    if how == "grown":
        path.write_bytes(data + b"more")
    elif how == "shrunk":
        os.truncate(path, max(0, len(data) - 1))
    elif how == "rewritten":
        path.write_bytes(data)
        os.utime(path, ns=(1, 1))
    elif how == "replaced":
        path.with_name("new").write_bytes(data)
        os.utime(path.with_name("new"), ns=(os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns))
        path.with_name("new").rename(path)
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["grown", "shrunk", "rewritten", "replaced"])
@pytest.mark.parametrize("data", [b"small", chunks_of(1, 2, 3), chunks_of(1, 2, 3) + b"rest"], ids=["small", "full", "rest"])
@pytest.mark.parametrize("old", [None, b"old", chunks_of(1, 9, 3)], ids=["new", "update", "similar"])
def test_a_file_that_changed_while_it_was_read_is_not_published(
    rig: StoreRig, tmp_path: Path, how: str, data: bytes, old: bytes | None
) -> None:
    if old is not None:
        rig.store["a"] = old
    path = tmp_path / "file"
    path.write_bytes(data)

    def hear(event: Event) -> None:
        if isinstance(event, ConfirmReservation):
            change(path, how, data)

    items: dict[str, Any] = {"a": path, "big": chunks_of(*range(9))}
    with pytest.raises(PutFailed) as caught:
        rig.store.put_many(items, on_event=hear)
    assert isinstance(caught.value.__cause__, (SourceChanged, SourceNotFound))
    assert caught.value.exit_code in (75, 66)
    assert caught.value.context["key"] == "a"
    assert rig.store.get("a") == old
    rig.assert_sound()
    rig.reopen()
    assert rig.store.get("a") == old


def test_a_file_removed_before_it_is_read_names_the_key(rig: StoreRig, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(chunks_of(1))

    def hear(event: Event) -> None:
        if isinstance(event, ConfirmReservation):
            (tmp_path / "file").unlink()

    with pytest.raises(PutFailed) as caught:
        rig.store.put("a", tmp_path / "file", on_event=hear)
    assert (caught.value.exit_code, caught.value.context["key"]) == (66, "a")


# -- skipping


def sources(folder: Path, count: int, size: int) -> dict[str, Any]:
    for number in range(count):
        (folder / f"f{number}").write_bytes(bytes([number]) * size)
    return {f"f{number}": folder / f"f{number}" for number in range(count)}


CHANGES = [(how, size) for how in ("grown", "shrunk", "replaced", "gone") for size in (0, 10, 2 * CHUNK, 2 * CHUNK + 10)]
CHANGES.remove(("shrunk", 0))


@pytest.mark.parametrize(("how", "size"), CHANGES)
@pytest.mark.parametrize("before", [False, True], ids=["new", "stored"])
def test_a_failed_source_is_skipped_and_all_others_are_stored(
    rig: StoreRig, tmp_path: Path, how: str, size: int, before: bool
) -> None:
    items = sources(tmp_path, 6, size)
    if before:
        rig.store.put_many(items)
    bad, heard = {"f2", "f4"}, dict[str, AnthillError]()

    def hear(event: Event) -> None:
        if isinstance(event, ConfirmReservation):
            for key in bad:
                change(tmp_path / key, how, (tmp_path / key).read_bytes())

    entries = rig.store.put_many(
        {**items, "big": chunks_of(*range(9))}, on_event=hear, on_source_error=lambda key, error: heard.setdefault(key, error)
    )
    good = set(items) - bad | {"big"}
    assert (set(entries), set(heard)) == (good, bad)
    assert all(error.exit_code in (66, 75) for error in heard.values())
    assert set(rig.store) == good | (bad if before else set())
    rig.assert_sound(**{key: bytes([int(key[1])]) * size for key in rig.store if key != "big"})


def test_sources_that_cannot_be_opened_are_skipped_too(rig: StoreRig, tmp_path: Path) -> None:
    heard: dict[str, AnthillError] = {}
    items: dict[str, Any] = {"a": tmp_path / "missing", "b": b"2", "c": tmp_path}
    entries = rig.store.put_many(items, on_source_error=heard.setdefault)
    assert set(entries) == {"b"}
    assert {key: type(error) for key, error in heard.items()} == {"a": SourceNotFound, "c": SourceNotFound}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_says_how_to_make_it_readable(rig: StoreRig, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "file").chmod(0)
    with pytest.raises((PermissionRefused, PutFailed), match="chmod") as caught:
        rig.store.put("a", tmp_path / "file")
    assert caught.value.exit_code == 77


@pytest.mark.parametrize("size", [10, 2 * CHUNK])
@pytest.mark.parametrize("before", [False, True], ids=["new", "stored"])
def test_what_the_skipping_callback_raises_stops_the_put_and_is_raised_unchanged(
    rig: StoreRig, tmp_path: Path, size: int, before: bool
) -> None:
    items, whim = sources(tmp_path, 3, size), Whim("enough")
    if before:
        rig.store.put_many(items)

    def refuse(key: str, error: AnthillError) -> None:
        raise whim

    def hear(event: Event) -> None:
        if isinstance(event, ConfirmReservation):
            change(tmp_path / "f1", "grown", b"")

    with pytest.raises(Whim) as caught:
        rig.store.put_many({**items, "big": chunks_of(*range(9))}, on_event=hear, on_source_error=refuse)
    assert caught.value is whim
    rig.assert_sound()


# -- mutations from inside


def nested(rig: StoreRig) -> list[Callable[[], object]]:
    store = rig.store
    return [
        lambda: store.put("x", b"1"),
        lambda: store.put("a", b"1"),
        lambda: store.delete("old"),
        lambda: store.rename("old", "new"),
        lambda: store.clear(),
        lambda: store.reserve(1),
        lambda: store.trim(),
        lambda: store.abandon("a"),
    ]


@pytest.mark.parametrize("which", range(8))
def test_a_mutation_from_inside_a_callback_or_source_raises_instead_of_waiting_for_itself(rig: StoreRig, which: int) -> None:
    rig.store["old"] = b"0"
    mutate = nested(rig)[which]

    def source() -> Iterator[bytes]:
        yield b"1"
        mutate()

    puts: list[Callable[[], object]] = [
        lambda: rig.store.put("a", chunks_of(1), on_event=lambda event: mutate()),
        lambda: rig.store.put("a", chunks_of(1), confirm=lambda question: bool(mutate())),
        lambda: rig.store.put("a", source()),
    ]
    for put in puts:
        with pytest.raises(NestedMutation) as caught:
            put()
        assert caught.value.exit_code == 64
    rig.assert_sound(old=b"0")
    assert list(rig.store) == ["old"]


def test_reading_from_inside_a_callback_is_allowed(rig: StoreRig) -> None:
    rig.store["old"] = chunks_of(1, 2)
    seen: list[Any] = []

    def look(event: Event) -> None:
        seen.append((rig.store["old"] == chunks_of(1, 2), "a" in rig.store, rig.store.usage().keys, rig.store.check().problems))

    rig.store.put("a", chunks_of(3, 4), on_event=look)
    assert {(value, keys, problems) for value, _, keys, problems in seen} <= {(True, 1, ()), (True, 2, ())}


@pytest.mark.parametrize("size", [10, 2 * CHUNK])
def test_a_mutation_from_inside_the_skipping_callback_raises_too(rig: StoreRig, tmp_path: Path, size: int) -> None:
    items = sources(tmp_path, 3, size)

    def hear(event: Event) -> None:
        if isinstance(event, ConfirmReservation):
            change(tmp_path / "f1", "grown", b"")

    with pytest.raises(NestedMutation):
        rig.store.put_many(items, on_event=hear, on_source_error=lambda key, error: rig.store.put(key, b""))
    rig.assert_sound()


@pytest.fixture
def few_descriptors() -> Iterator[int]:
    """So many more files than are open now may be."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 30, most))
    yield 30
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def test_small_files_are_put_and_updated_however_few_of_them_may_be_open(
    rig: StoreRig, tmp_path: Path, few_descriptors: int
) -> None:
    """All of them go into one image: none may stay open until it is committed."""
    paths = {f"k{number}": tmp_path / f"source-{number}" for number in range(4 * few_descriptors)}
    for text in (b"first", b"second"):
        for path in paths.values():
            path.write_bytes(text)
        entries = rig.store.put_many(paths)
        assert {entry.size for entry in entries.values()} == {len(text)}
    rig.assert_sound(**dict.fromkeys(paths, b"second"))


def test_the_source_of_an_interrupted_put_is_named_as_it_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source").write_bytes(b"value")
    monkeypatch.chdir(tmp_path)
    source = open_source(Path("source"))
    monkeypatch.chdir("/")
    assert source.origin == {"path": str(tmp_path / "source")}
