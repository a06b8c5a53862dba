"""``put -r`` and ``get -r``: whole directory trees, and nothing outside of them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from .cli_tools import Shell, make_shell

MTIME = 1_234_567_890_123_456_789


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return make_shell(tmp_path / "home")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files small and large, deep and empty, a link in and a link out, and an empty directory."""
    root = tmp_path / "tree"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "deep" / "er" / "large").write_bytes(os.urandom(1_500_000))
    (root / "deep" / "small").write_bytes(b"small")
    (root / "empty file").write_bytes(b"")
    (root / "é").write_bytes(b"accent")
    (root / "run").write_bytes(b"#!/bin/sh\n")
    (root / "run").chmod(0o751)
    (root / "in").symlink_to("deep/small")
    (root / "out").symlink_to("/nowhere/at all")
    (root / "empty").mkdir(mode=0o700)
    for path in root.rglob("*"):
        os.utime(path, ns=(MTIME, MTIME), follow_symlinks=False)
    return root


def described(root: Path) -> dict[str, tuple[object, ...]]:
    """All there is to know about a tree that put -r promises to keep."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status, name = path.lstat(), str(path.relative_to(root))
        if path.is_symlink():
            found[name] = ("link", os.readlink(path), status.st_mtime_ns)
        elif path.is_file():
            found[name] = ("file", path.read_bytes(), stat.S_IMODE(status.st_mode), status.st_mtime_ns)
        elif not any(path.iterdir()):
            found[name] = ("dir", stat.S_IMODE(status.st_mode), status.st_mtime_ns)
    return found


def test_a_tree_comes_back_as_it_was(shell: Shell, tree: Path, tmp_path: Path) -> None:
    shell.ok("put", "backup/tree", tree, "-r")
    shell.ok("get", "backup/tree", tmp_path / "out", "-r")
    assert described(tmp_path / "out") == described(tree)
    assert not list((tmp_path / "out").rglob(".anthill-*"))


def test_json_lists_values_failures_and_what_was_left(shell: Shell, tree: Path, tmp_path: Path) -> None:
    names = described(tree)
    os.mkfifo(tree / "fifo")
    with open(os.fsencode(tree) + b"/\xff", "wb"):
        pass
    result = shell("put", "t", tree, "-r", "--json")
    assert result.code == 4
    assert sorted(value["key"] for value in result.json["values"]) == sorted(f"t/{name}" for name in names)
    assert [failed["path"] for failed in result.json["failed"]] == [os.fsdecode(os.fsencode(tree) + b"/\xff")]
    assert [skipped["path"] for skipped in result.json["skipped"]] == [str(tree / "fifo")]
    assert result.error["code"] == 4
    answer = shell.ok("get", "t", tmp_path / "out", "-r", "--json").json
    assert (answer["format"], len(answer["values"]), answer["failed"]) == (1, 8, [])


def test_failures_are_listed_at_the_end_and_the_rest_is_stored(shell: Shell, tree: Path) -> None:
    with open(os.fsencode(tree) + b"/bad\nname", "wb"):
        pass
    result = shell("put", "t", tree, "-r")
    assert result.code == 4
    first, last = result.err.splitlines()
    assert "has a control character" in first
    assert "bad\\nname" in first
    assert last == "anthill: 1 file not stored, all others are done"
    assert len(shell.ok("ls").out.splitlines()) == 8


def test_unchanged_files_are_skipped_unless_checksum(shell: Shell, tree: Path) -> None:
    assert shell.ok("put", "t", tree, "-r", "--json").json["unchanged"] == 0
    answer = shell.ok("put", "t", tree, "-r", "--json").json
    assert (answer["values"], answer["unchanged"]) == ([], 8)
    (tree / "deep" / "small").write_bytes(b"SMALL")
    os.utime(tree / "deep" / "small", ns=(MTIME, MTIME))  # as if nothing had happened
    assert shell.ok("put", "t", tree, "-r", "--json").json["unchanged"] == 8
    assert len(shell.ok("put", "t", tree, "-r", "--checksum", "--json").json["values"]) == 8
    assert shell.ok("get", "t/deep/small").data == b"SMALL"


def test_put_deletes_nothing(shell: Shell, tree: Path) -> None:
    shell.ok("put", "t", tree, "-r")
    (tree / "run").unlink()
    shell.ok("put", "t", tree, "-r")
    assert "t/run" in shell.ok("ls").out


def test_the_store_inside_the_tree_is_left_out(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    shell.ok("put", "all", tmp_path, "-r")
    assert shell.ok("ls").out == "all/file\n"


def test_r_needs_a_directory(shell: Shell, tree: Path) -> None:
    assert shell("put", "t", tree / "run", "-r").code == 64
    assert shell("put", "t", tree / "missing", "-r").code == 66


def test_without_a_key_everything_is_stored_and_restored(shell: Shell, tree: Path, tmp_path: Path) -> None:
    shell.ok("put", "", tree, "-r")
    assert "deep/small\n" in shell.ok("ls").out
    shell.ok("get", "", tmp_path / "out", "-r")
    assert described(tmp_path / "out") == described(tree)


def test_values_that_were_put_one_by_one_are_files_like_new(shell: Shell, tmp_path: Path) -> None:
    shell.ok("put", "a/b", "-", stdin=b"1")
    before = os.umask(0o027)
    try:
        shell.ok("get", "a", tmp_path / "out", "-r")
        shell.ok("get", "a/b", tmp_path / "one", "-r")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out" / "b").stat().st_mode) == 0o640
    assert (tmp_path / "one" / "b").read_bytes() == b"1"


def test_missing_keys_make_no_directory(shell: Shell, tmp_path: Path) -> None:
    assert shell("get", "nothing", tmp_path / "out", "-r").code == 66
    assert not (tmp_path / "out").exists()


# -- safety


def test_restoring_never_writes_through_a_symlink(shell: Shell, tree: Path, tmp_path: Path) -> None:
    shell.ok("put", "t", tree, "-r")
    outside = tmp_path / "outside"
    outside.mkdir()
    out = tmp_path / "out"
    out.mkdir()
    (out / "deep").symlink_to(outside)
    for options in ((), ("--force",)):
        result = shell("get", "t", out, "-r", *options)
        assert result.code == 73
        assert "symlink" in result.err
        assert list(outside.iterdir()) == []
        assert [p.name for p in out.iterdir()] == ["deep"]


def test_a_link_that_the_store_holds_leads_nowhere(shell: Shell, tmp_path: Path) -> None:
    """A store that someone else filled: a link, and a key below that link."""
    from anthill_sync.store import Store

    outside = tmp_path / "outside"
    outside.mkdir()
    with Store.open(shell.home) as store:
        store.put("t/link", str(outside).encode(), attributes={"kind": "link", "mode": 0o777, "mtime_ns": 0})
        store.put("t/link/file", b"escaped")
    result = shell("get", "t", tmp_path / "out", "-r")
    assert result.code == 73
    assert "cannot both be restored" in result.err
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_a_file_link_in_the_destination_is_replaced_not_written_through(shell: Shell, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    shell.ok("put", "t/file", "-", stdin=b"new")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").symlink_to(victim)
    assert shell("get", "t", tmp_path / "out", "-r").code == 73
    shell.ok("get", "t", tmp_path / "out", "-r", "--force")
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "out" / "file").is_symlink()
    assert (tmp_path / "out" / "file").read_bytes() == b"new"


def test_files_that_are_there_stop_everything_before_it_begins(shell: Shell, tree: Path, tmp_path: Path) -> None:
    shell.ok("put", "t", tree, "-r")
    out = tmp_path / "out"
    out.mkdir()
    (out / "run").write_bytes(b"mine")
    assert shell("get", "t", out, "-r").code == 73
    assert [p.name for p in out.iterdir()] == ["run"]
    assert (out / "run").read_bytes() == b"mine"
    shell.ok("get", "t", out, "-r", "--force")
    assert described(out) == described(tree)


def test_a_directory_where_a_file_belongs_is_never_replaced(shell: Shell, tree: Path, tmp_path: Path) -> None:
    shell.ok("put", "t", tree, "-r")
    (tmp_path / "out" / "run").mkdir(parents=True)
    assert shell("get", "t", tmp_path / "out", "-r", "--force").code == 73
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["run"]


def test_set_user_id_is_not_restored(shell: Shell, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "tool").write_bytes(b"x")
    (tree / "tool").chmod(0o6755)
    shell.ok("put", "t", tree, "-r")
    shell.ok("get", "t", tmp_path / "out", "-r")
    assert stat.S_IMODE((tmp_path / "out" / "tool").stat().st_mode) == 0o755


def test_a_damaged_value_is_listed_and_the_others_are_restored(shell: Shell, tree: Path, tmp_path: Path) -> None:
    shell.ok("put", "t", tree, "-r")
    _flip_large(shell.home)
    result = shell("get", "t", tmp_path / "out", "-r")
    assert result.code == 4
    assert "large" in result.err
    assert (tmp_path / "out" / "deep" / "small").read_bytes() == b"small"
    assert not (tmp_path / "out" / "deep" / "er" / "large").exists()
    assert not list((tmp_path / "out").rglob(".anthill-*"))


def _flip_large(home: Path) -> None:
    """Damage pads that are full: only the large file has any."""
    for path in (home / "pads").rglob("*"):
        if path.is_file() and path.stat().st_size > 15_500:
            data = bytearray(path.read_bytes())
            data[5000] ^= 1
            path.write_bytes(data)
