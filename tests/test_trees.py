"""trees.py: directory trees as keys."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from anthill_sync.errors import InvalidArgument, NoRoom, SourceNotFound
from anthill_sync.summaries import Entry
from anthill_sync.trees import FilePath, Found, Left, plan, scan

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def entry(key: str, size: int = 0, **attributes: Any) -> Entry:
    return Entry(key, size, 1, NOW, 1, attributes)


def found(root: Path, key: str = "k") -> dict[str, Found]:
    return {thing.key: thing for thing in scan(root, key) if isinstance(thing, Found)}


def left(root: Path, key: str = "k", avoid: Path | None = None) -> list[Left]:
    return [thing for thing in scan(root, key, avoid=avoid) if isinstance(thing, Left)]


def test_files_links_and_empty_directories_are_found_with_mode_and_time(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"12345")
    (tmp_path / "sub" / "file").chmod(0o640)
    os.utime(tmp_path / "sub" / "file", ns=(1, 1_234_567_890_123_456_789))
    (tmp_path / "empty").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("/etc/passwd")
    things = found(tmp_path)
    assert set(things) == {"k/sub/file", "k/empty", "k/link"}
    assert things["k/sub/file"].attributes == {"kind": "file", "mode": 0o640, "mtime_ns": 1_234_567_890_123_456_789}
    source = things["k/sub/file"].source
    assert isinstance(source, FilePath)
    assert os.fspath(source) == str(tmp_path / "sub" / "file")
    assert things["k/sub/file"].size == 5
    assert (things["k/empty"].source, things["k/empty"].attributes["kind"]) == (b"", "dir")
    assert (things["k/link"].source, things["k/link"].size, things["k/link"].attributes["kind"]) == (b"/etc/passwd", 11, "link")


def test_a_link_to_a_directory_is_stored_and_never_entered(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [(t.key, t.attributes["kind"]) for t in found(tmp_path).values()] == [("k/loop", "link")]


def test_an_empty_root_is_the_key_itself(tmp_path: Path) -> None:
    assert [(t.key, t.attributes["kind"]) for t in found(tmp_path).values()] == [("k", "dir")]
    assert found(tmp_path, "") == {}


def test_without_a_key_names_are_keys(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert list(found(tmp_path, "")) == ["a"]


def test_sockets_and_fifos_are_named_and_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.chdir(tmp_path)  # a socket's path is at most about 100 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        things = left(tmp_path)
    assert [(Path(t.path).name, t.reason, t.failed) for t in things] == [
        ("fifo", "a fifo is not stored", False),
        ("socket", "a socket is not stored", False),
    ]


@pytest.mark.parametrize(
    "name", [b"\xff\xfe", b"line\nbreak", b"\x1b[2J", "\x85".encode()], ids=["bytes", "newline", "escape", "c1"]
)
def test_a_name_that_cannot_be_a_key_is_listed_as_failed(tmp_path: Path, name: bytes) -> None:
    (tmp_path / "good").write_bytes(b"")
    with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
        pass
    assert list(found(tmp_path)) == ["k/good"]
    (thing,) = left(tmp_path)
    assert thing.failed
    assert "not a key" in thing.reason


def test_a_path_of_more_than_1024_bytes_is_listed_as_failed(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d" * 200] * 6)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"")
    (thing,) = left(tmp_path)
    assert thing.failed
    assert "1024" in thing.reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_directory_that_cannot_be_listed_is_failed(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    assert [(t.failed, Path(t.path).name) for t in left(tmp_path)] == [(True, "closed")]


def test_a_store_inside_the_tree_is_not_stored_in_itself(tmp_path: Path) -> None:
    (tmp_path / "home" / "pads").mkdir(parents=True)
    (tmp_path / "home" / "key").write_bytes(b"secret")
    (tmp_path / "other").write_bytes(b"")
    (thing,) = left(tmp_path, avoid=tmp_path / "home")
    assert (thing.path, thing.failed) == (str(tmp_path / "home"), False)
    keys = [t.key for t in scan(tmp_path, "k", avoid=tmp_path / "home") if isinstance(t, Found)]
    assert keys == ["k/other"]


def test_a_tree_deeper_than_the_stack_is_scanned(tmp_path: Path) -> None:
    levels = 1200
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(levels):  # no single path of this length can be given to the system
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    try:
        (thing,) = left(tmp_path)
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # pytest's own removal is recursive
    assert thing.failed


def test_a_root_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidArgument):
        list(scan(tmp_path / "file", "k"))
    with pytest.raises(SourceNotFound):
        list(scan(tmp_path / "missing", "k"))


def test_a_file_is_unchanged_while_size_time_and_mode_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"123")
    thing = found(tmp_path)["k/file"]
    same = entry("k/file", 3, **thing.attributes)
    assert thing.is_unchanged(same)
    assert not thing.is_unchanged(None)
    assert not thing.is_unchanged(entry("k/file", 4, **thing.attributes))
    assert not thing.is_unchanged(entry("k/file", 3, **{**thing.attributes, "mtime_ns": 5}))
    path.chmod(stat.S_IMODE(path.stat().st_mode) ^ stat.S_IXUSR)
    assert not found(tmp_path)["k/file"].is_unchanged(same)


def test_places_are_relative_to_the_key() -> None:
    targets = plan([entry("a/b"), entry("a/c/d")], "a")
    assert [t.parts for t in targets] == [(b"b",), (b"c", b"d")]
    assert [t.parts for t in plan([entry("a/b")], "")] == [(b"a", b"b")]


def test_a_single_value_is_restored_under_its_last_name() -> None:
    assert [t.parts for t in plan([entry("a/b")], "a/b")] == [(b"b",)]


def test_the_key_of_an_empty_directory_is_the_destination_itself() -> None:
    assert [t.parts for t in plan([entry("a", kind="dir")], "a")] == [()]


@pytest.mark.parametrize(
    "entries",
    [
        [entry("k/a"), entry("k/a/b")],
        [entry("k/a", kind="link"), entry("k/a/b")],
        [entry("k/a/b"), entry("k/a", kind="file")],
        [entry("k"), entry("k/k")],
    ],
    ids=["file", "link", "order", "itself"],
)
def test_names_that_collide_are_refused(entries: list[Entry]) -> None:
    with pytest.raises(NoRoom, match="cannot both be restored"):
        plan(entries, "k")


def test_an_empty_directory_that_has_got_files_is_no_collision() -> None:
    assert len(plan([entry("k/a", kind="dir"), entry("k/a/b"), entry("k/a/c")], "k")) == 3


def test_names_that_differ_in_case_only_collide_where_the_file_system_thinks_so(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [entry("k/Name/x"), entry("k/name/y")]
    monkeypatch.setattr("sys.platform", "linux")
    assert len(plan(entries, "k")) == 2
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(NoRoom):
        plan(entries, "k")
