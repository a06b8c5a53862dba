"""A store behind fsspec: what is found, read, written and moved."""

from __future__ import annotations

import contextlib
import gc
import random
from pathlib import Path
from typing import Any

import fsspec
import pytest

from anthill_sync.errors import AccessDenied, InvalidArgument, StoreClosed
from anthill_sync.filesystem import AnthillFileSystem
from tests.filesystem_tools import everything
from tests.store_tools import CHUNK, StoreRig, chunks_of
from tests.support import Seen

pytest_plugins = ["tests.filesystem_fixtures"]


@pytest.fixture
def tree(files: AnthillFileSystem) -> AnthillFileSystem:
    files.pipe({"a/one": b"1", "a/b/two": b"22", "a/b/c/three": b"333", "d": b""})
    return files


# -- reading


def test_any_range_of_a_value_can_be_read(files: AnthillFileSystem, seed: int) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(3 * CHUNK + 100)
    files.pipe_file("a", data)
    places = [
        None,
        0,
        1,
        -1,
        CHUNK,
        -CHUNK,
        len(data),
        len(data) + 9,
        *(chance.randrange(-len(data), len(data)) for _ in range(9)),
    ]
    for start in places:
        for end in places:
            assert files.cat_file("a", start, end) == data[start:end], (start, end)
    assert files.cat_ranges(["a", "a"], [0, CHUNK], [5, CHUNK + 5]) == [data[:5], data[CHUNK : CHUNK + 5]]
    assert (files.head("a", 7), files.tail("a", 7)) == (data[:7], data[-7:])
    with files.open("a") as file:
        assert (file.size, file.tell(), file.seek(-5, 2), file.read()) == (len(data), 0, len(data) - 5, data[-5:])


def test_a_range_reads_only_the_chunks_it_lies_in(files: AnthillFileSystem, rig: StoreRig) -> None:
    files.pipe_file("a", chunks_of(*range(9)))
    with rig.counting() as calls:
        assert files.cat_file("a", 4 * CHUNK, 4 * CHUNK + 5) == b"\4" * 5
    assert calls["read"] == 1


def test_info_and_listings_tell_values_and_directories(tree: AnthillFileSystem, rig: StoreRig) -> None:
    entry = rig.store.stat("a/b/two")
    times = {"created": entry.modified, "modified": entry.modified}
    facts = {"name": "a/b/two", "size": 2, "type": "file", "version": entry.version, **times}
    assert tree.info("anthill://a/b/two") == facts
    assert tree.info("a/b") == {"name": "a/b", "size": 0, "type": "directory"}
    assert tree.created("a/one") == tree.modified("a/one") == rig.store.stat("a/one").modified
    assert tree.ls("", detail=False) == tree.ls("anthill://", detail=False) == ["a", "d"]
    assert [(each["name"], each["type"]) for each in tree.ls("a/")] == [("a/b", "directory"), ("a/one", "file")]
    assert tree.ls("d", detail=False) == ["d"]
    assert tree.find("a") == ["a/b/c/three", "a/b/two", "a/one"]
    assert tree.find("a", maxdepth=1) == ["a/one"]
    assert tree.find("none") == []
    assert tree.glob("a/**/t*") == ["a/b/c/three", "a/b/two"]
    assert tree.du("a") == 6
    assert [tree.exists(path) for path in ("a", "a/one", "", "none", "a//b", "a/on")] == [True, True, True, False, False, False]
    assert (tree.isdir("a"), tree.isfile("a"), tree.isfile("d")) == (True, False, True)


def test_a_key_that_is_a_value_and_has_values_below_it_is_both(files: AnthillFileSystem) -> None:
    files.pipe({"a": b"1", "a/b": b"2"})
    assert files.find("") == ["a", "a/b"]
    assert (files.cat_file("a"), files.cat_file("a/b")) == (b"1", b"2")
    assert files.ls("a", detail=False) == ["a/b"]


def test_empty_directories_stored_by_the_command_are_directories(files: AnthillFileSystem, rig: StoreRig) -> None:
    rig.store.put("t/empty", b"", attributes={"kind": "dir", "mode": 0o755})
    assert (files.isdir("t/empty"), files.find("t"), files.ls("t", detail=False)) == (True, [], ["t/empty"])


def test_what_is_not_there_is_an_error_that_everybody_knows(tree: AnthillFileSystem, tmp_path: Path) -> None:
    for act in (
        lambda path: tree.info(path),
        lambda path: tree.ls(path),
        lambda path: tree.cat_file(path),
        lambda path: tree.open(path, "rb"),
        lambda path: tree.rm_file(path),
        lambda path: tree.rm(path),
        lambda path: tree.modified(path),
        lambda path: tree.get_file(path, str(tmp_path / "file")),
        lambda path: tree.cp_file(path, "copy"),
    ):
        for path in ("none", "a/none", "a//one"):
            with pytest.raises(FileNotFoundError):
                act(path)


# -- writing


def test_values_of_a_dict_share_pads(files: AnthillFileSystem, rig: StoreRig) -> None:
    with rig.counting() as calls:
        files.pipe({f"small/{number}": b"value" for number in range(50)})
    assert calls["write"] < 5
    assert len(files.find("small")) == 50


def test_exclusive_creation_leaves_what_is_there(files: AnthillFileSystem, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"new")
    files.pipe_file("a", b"old", mode="create")
    for act in (
        lambda: files.pipe_file("a", b"new", mode="create"),
        lambda: files.pipe({"a": b"new", "b": b"new"}, mode="create"),
        lambda: files.put_file(tmp_path / "file", "a", mode="create"),
        lambda: files.open("a", "xb"),
    ):
        with pytest.raises(FileExistsError):
            act()
    assert everything(files) == {"a": b"old"}


@pytest.mark.parametrize("mode", ["wb", "w", "xb", "x"])
@pytest.mark.parametrize("compression", [None, "gzip", "bz2"])
def test_an_exception_publishes_nothing(files: AnthillFileSystem, mode: str, compression: str | None) -> None:
    """As in programs: ``fsspec.open`` compresses, and closes in order."""

    def opened(mode: str) -> fsspec.core.OpenFile:
        return fsspec.core.OpenFile(files, "a", mode, compression, encoding="utf-8")

    data: Any = b"new" if "b" in mode else "n\u00eaw"
    with contextlib.suppress(ZeroDivisionError), opened(mode) as file:
        file.write(data)
        raise ZeroDivisionError
    assert files.find("") == []
    with opened(mode) as file:
        file.write(data)
    with opened("rb" if "b" in mode else "r") as file:
        assert file.read() == data


@pytest.mark.parametrize("mode", ["wb", "w"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_file_that_nobody_closes_publishes_nothing(files: AnthillFileSystem, mode: str) -> None:
    files.pipe_file("a", b"old")
    file = files.open("a", mode)
    file.write("new" if mode == "w" else b"new")
    del file
    gc.collect()
    assert files.cat_file("a") == b"old"


def test_text_is_utf_8_as_in_the_store(files: AnthillFileSystem, rig: StoreRig) -> None:
    with files.open("a", "w") as file:
        file.write("\u00e4")
    assert rig.store["a"] == b"\xc3\xa4"
    with files.open("a", "r") as file:
        assert file.read() == "\u00e4"
    with files.open("b", "w", encoding="latin-1") as file:
        file.write("\u00e4")
    assert rig.store["b"] == b"\xe4"


def test_compression_that_would_never_be_published_is_refused(files: AnthillFileSystem) -> None:
    with pytest.raises(InvalidArgument, match=r"fsspec\.open"):
        files.open("a.gz", "wb", compression="infer")
    with fsspec.core.OpenFile(files, "a.gz", "wb", "gzip") as file:
        file.write(b"data")
    with files.open("a.gz", "rb", compression="infer") as file:
        assert file.read() == b"data"


@pytest.mark.parametrize("mode", ["ab", "r+b", "w+b", "a"])
def test_modes_that_change_a_value_in_place_do_not_exist(files: AnthillFileSystem, mode: str) -> None:
    files.pipe_file("a", b"old")
    with pytest.raises(InvalidArgument, match="mode"):
        files.open("a", mode)
    assert everything(files) == {"a": b"old"}


def test_what_is_no_bytes_is_no_value(files: AnthillFileSystem, tmp_path: Path) -> None:
    for value in ("text", tmp_path, 7, None):
        with pytest.raises(TypeError):
            files.pipe_file("a", value)
    assert files.find("") == []


def test_a_transaction_publishes_at_its_end_or_never(files: AnthillFileSystem) -> None:
    files.pipe({"a": b"old", "b": b"old"})
    with files.transaction:
        for name in ("a", "b"):
            with files.open(name, "wb") as file:
                file.write(b"new")
                file.seek(0)
                file.write(b"N")
        assert everything(files) == {"a": b"old", "b": b"old"}
    assert everything(files) == {"a": b"New", "b": b"New"}
    with pytest.raises(FileNotFoundError), files.transaction, files.open("a", "wb"):
        files.cat_file("none")
    assert files.cat_file("a") == b"New"


def test_moving_a_value_moves_no_data(files: AnthillFileSystem, rig: StoreRig) -> None:
    files.pipe_file("a", chunks_of(*range(9)))
    with rig.counting() as calls:
        files.mv("a", "b/c")
    assert calls["write"] < 4
    assert calls["read"] < 4
    with rig.counting() as calls:
        files.mv("b", "d", recursive=True)
    assert calls["write"] < 4
    assert files.find("") == ["d/c"]
    assert files.cat_file("d/c") == chunks_of(*range(9))


def test_a_copy_keeps_bytes_and_attributes(files: AnthillFileSystem, rig: StoreRig) -> None:
    rig.store.put("a", chunks_of(1, 2), attributes={"mode": 0o644})
    files.cp_file("a", "b")
    assert (rig.store["b"], rig.store.stat("b").attributes) == (chunks_of(1, 2), {"mode": 0o644})


def test_removing_removes_all_or_nothing(tree: AnthillFileSystem) -> None:
    with pytest.raises(FileNotFoundError):
        tree.rm(["a/one", "none"])
    with pytest.raises(IsADirectoryError):
        tree.rm("a")
    assert len(tree.find("")) == 4
    with pytest.raises(OSError, match="not empty"):
        tree.rmdir("a")
    tree.rm("a", recursive=True)
    assert tree.find("") == ["d"]


def test_files_come_and_go_whole(files: AnthillFileSystem, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(chunks_of(*range(5)))
    heard = fsspec.callbacks.Callback()
    files.put_file(str(tmp_path / "source"), "a/b", callback=heard)
    assert (heard.value, heard.size) == (5 * CHUNK, 5 * CHUNK)
    heard = fsspec.callbacks.Callback()
    files.get_file("a/b", str(tmp_path / "new" / "target"), callback=heard)
    assert (tmp_path / "new" / "target").read_bytes() == chunks_of(*range(5))
    assert (heard.value, heard.size) == (5 * CHUNK, 5 * CHUNK)


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_a_file_that_failed_in_a_transaction_is_not_published_with_the_others(files: AnthillFileSystem, mode: str) -> None:
    with files.transaction:
        files.pipe({"b": b"new"})
        files.pipe_file("c", b"new", mode="create")
        with contextlib.suppress(ZeroDivisionError), files.open("a", mode) as file:
            file.write("half" if mode == "w" else b"half")
            raise ZeroDivisionError
        assert files.find("") == []
    assert everything(files) == {"b": b"new", "c": b"new"}


def test_whoever_creates_second_learns_of_the_first(files: AnthillFileSystem) -> None:
    """Both were told that nothing was there; the second hears of it when it is published."""
    late = files.open("a", "xb")
    late.write(b"late")
    files.pipe_file("a", b"first", mode="create")
    with pytest.raises(FileExistsError):
        late.close()
    assert everything(files) == {"a": b"first"}


def test_a_folder_is_no_file(tree: AnthillFileSystem) -> None:
    for act in (tree.open, tree.rm_file, tree.rm, tree.modified):
        with pytest.raises(IsADirectoryError):
            act("a/b")
    with pytest.raises(FileNotFoundError):
        tree.cat_file("a/b")
    with pytest.raises(NotADirectoryError):
        tree.rmdir("a/one")


def test_folders_are_implied(files: AnthillFileSystem, rig: StoreRig) -> None:
    files.mkdir("a/b")
    files.makedirs("a/b/c", exist_ok=True)
    assert (files.exists("a"), files.exists(""), files.ls("")) == (False, True, [])
    files.rmdir("a/b")
    files.touch("a/b/c")
    assert (files.isdir("a/b"), files.cat_file("a/b/c")) == (True, b"")
    rig.store.put("empty", b"", attributes={"kind": "dir"})
    files.rmdir("empty")
    assert files.find("", withdirs=True) == ["a", "a/b", "a/b/c"]


def test_touching_keeps_bytes_only_without_truncating(files: AnthillFileSystem) -> None:
    files.pipe_file("a", b"old")
    files.touch("a", truncate=False)
    assert files.cat_file("a") == b"old"
    files.touch("a")
    assert files.cat_file("a") == b""


@pytest.mark.parametrize("target", ["d/", "d"])
def test_a_name_without_a_slash_goes_into_a_folder_too(files: AnthillFileSystem, tmp_path: Path, target: str) -> None:
    files.pipe({"d/x": b"0", "a": b"1", "t/u": b"2", "m": b"3"})
    files.cp("a", target)
    files.mv("m", target)
    files.cp("t", target, recursive=True)
    assert everything(files) == {"a": b"1", "d/a": b"1", "d/m": b"3", "d/t/u": b"2", "d/x": b"0", "t/u": b"2"}
    (tmp_path / "d").mkdir()
    files.get("a", str(tmp_path / target))
    files.get("t", str(tmp_path / target), recursive=True)
    assert ((tmp_path / "d" / "a").read_bytes(), (tmp_path / "d" / "t" / "u").read_bytes()) == (b"1", b"2")


def test_moving_loses_nothing_whatever_the_target(files: AnthillFileSystem) -> None:
    files.pipe({"a/x": b"1", "a/y": b"2", "a/s/x": b"3"})
    files.mv("a/x", "a/x")
    files.mv("a/x", "anthill://a/")
    files.mv(["a/x", "a/y"], "a")
    assert everything(files) == {"a/x": b"1", "a/y": b"2", "a/s/x": b"3"}
    files.mv("a", "a/s/new", recursive=True)
    assert everything(files) == {"a/s/new/x": b"1", "a/s/new/y": b"2", "a/s/new/s/x": b"3"}
    with pytest.raises(FileNotFoundError):
        files.mv("none", "b")
    with pytest.raises(IsADirectoryError):
        files.mv("a", "b")
    assert len(files.find("a")) == 3


def test_a_move_that_would_lose_a_value_is_refused_before_anything_is_moved(files: AnthillFileSystem) -> None:
    before = {"a/x": b"1", "a/s/x": b"2", "b/x": b"3"}
    files.pipe(before)
    for act in (
        lambda: files.mv("a/", "a/s", recursive=True),  # a/x would be the end of a/s/x
        lambda: files.mv(["a/x", "a/s/x"], ["a/s/x", "c"]),
        lambda: files.mv(["a/x", "b/x"], "c"),  # both would be c/x
        lambda: files.mv(["a/x", "b/x"], ["c", "c"]),
    ):
        with pytest.raises(InvalidArgument, match="moved itself"):
            act()
    assert everything(files) == before


def test_moving_a_value_that_is_a_folder_too_moves_what_was_asked_for(files: AnthillFileSystem) -> None:
    files.pipe({"a": b"1", "a/b": b"2"})
    files.mv("a", "n")
    assert everything(files) == {"n": b"1", "a/b": b"2"}
    files.pipe_file("a", b"3")
    files.mv("a", "m", recursive=True)
    assert everything(files) == {"n": b"1", "m": b"3", "m/b": b"2"}


def test_an_empty_path_never_means_everything_to_remove(tree: AnthillFileSystem) -> None:
    for path in ("", "/", "anthill://", ["a", ""]):
        with pytest.raises(InvalidArgument, match="everything"):
            tree.rm(path, recursive=True)
    assert len(tree.find("")) == 4


def test_what_may_not_be_changed_is_a_permission_error(home: Path, tmp_path: Path) -> None:
    fsspec.filesystem("anthill").pipe_file("a", b"1")
    files = fsspec.filesystem("anthill", read_only=True)
    (tmp_path / "file").write_bytes(b"2")
    for act in (
        lambda: files.pipe_file("a", b"2"),
        lambda: files.open("a", "wb"),
        lambda: files.rm("a"),
        lambda: files.rm_file("a"),
        lambda: files.mv("a", "b"),
        lambda: files.cp_file("a", "b"),
        lambda: files.put_file(str(tmp_path / "file"), "a"),
        lambda: files.touch("a"),
    ):
        with pytest.raises(PermissionError, match="read-only"):
            act()
    assert everything(files) == {"a": b"1"}


def test_a_network_that_refuses_is_a_permission_error(files: AnthillFileSystem, rig: StoreRig) -> None:
    def refuse(seen: Seen) -> None:
        raise AccessDenied("these credentials may not write")

    rig.faulty.before("write", refuse)
    with pytest.raises(PermissionError, match="credentials"), files.open("a", "wb") as file:
        file.write(b"1")
    rig.mend()


def test_a_store_that_cannot_tell_does_not_say_no(files: AnthillFileSystem, rig: StoreRig) -> None:
    rig.store.close()
    for act in (files.exists, files.isfile, files.isdir, files.info):
        with pytest.raises(StoreClosed):
            act("a")


def test_asking_about_a_value_does_not_list_its_blocks(files: AnthillFileSystem, rig: StoreRig) -> None:
    files.pipe_file("a", chunks_of(*range(9)))
    short, full = rig.store.stat("a", blocks=False), rig.store.stat("a")
    assert (short, short.blocks, len(full.blocks or ())) == (full, None, 9)
