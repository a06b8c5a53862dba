"""The directory network: order of syncs, temporary files, modes, reading."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from anthill_sync import durable
from anthill_sync.errors import PadConflict, StorageFailure
from anthill_sync.networks.directory import DirectoryNetwork
from tests.support import PATIENCE, fail_durable, make_image, make_pad, record_durable, run_threads

PAD_SIZE = 16 * 1024
PAD = make_pad(1)
NAME = PAD.address[:2]
OLD, NEW = make_image(b"the old image"), make_image(b"the new image", counter=2)


@pytest.fixture
def network(tmp_path: Path) -> DirectoryNetwork:
    return DirectoryNetwork(tmp_path, PAD_SIZE)


def pad_file(root: Path) -> Path:
    return root / NAME / PAD.address


def files(root: Path) -> list[str]:
    """Names of all files in the pad's folder."""
    return sorted(path.name for path in (root / NAME).iterdir())


# -- order of syncs


def test_contents_are_synced_before_the_rename_and_the_folder_after_it(
    network: DirectoryNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.write(PAD, OLD)
    calls = record_durable(monkeypatch)
    network.write(PAD, NEW)
    assert [name for name, _ in calls] == ["open_new", "write_all", "sync", "rename", "sync_folder"]
    assert calls[0][1] != pad_file(tmp_path)
    assert calls[3:] == [("rename", pad_file(tmp_path)), ("sync_folder", tmp_path / NAME)]


def test_a_new_folder_is_durable_in_the_root_before_anything_is_in_it(
    network: DirectoryNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = record_durable(monkeypatch)
    network.write(PAD, OLD)
    names = [name for name, _ in calls]
    assert calls[0] == ("make_folder", tmp_path / NAME)
    assert ("sync_folder", tmp_path) in calls[: names.index("open_new")]


def test_a_folder_somebody_else_made_is_made_durable_too(
    network: DirectoryNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / NAME).mkdir()
    calls = record_durable(monkeypatch)
    network.write(PAD, OLD)
    assert ("sync_folder", tmp_path) in calls


def test_confirming_a_write_of_an_earlier_run_makes_its_name_durable(
    network: DirectoryNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.write(PAD, OLD)
    calls = record_durable(monkeypatch)
    DirectoryNetwork(tmp_path, PAD_SIZE).confirm(PAD, OLD.digest)
    assert ("sync_folder", tmp_path / NAME) in calls


def test_a_repeat_after_a_failed_folder_sync_syncs_the_folder(
    network: DirectoryNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.reserve(PAD)
    with monkeypatch.context() as broken:
        fail_durable(broken, "sync_folder", errno.EIO)
        with pytest.raises(StorageFailure):
            network.write(PAD, OLD)
    calls = record_durable(monkeypatch)
    network.write(PAD, OLD)
    assert calls == [("sync_folder", tmp_path / NAME)]
    assert pad_file(tmp_path).read_bytes() == OLD.data


def test_confirming_after_a_write_touches_no_file_and_later_reads_it_back(
    network: DirectoryNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.write(PAD, OLD)
    opened: list[object] = []
    real = os.open

    def recorded(path: Path, *rest: int) -> int:
        opened.append(path)
        return real(path, *rest)

    monkeypatch.setattr(os, "open", recorded)
    network.confirm(PAD, OLD.digest)
    assert opened == []
    network.confirm(PAD, OLD.digest)
    assert pad_file(tmp_path) in opened


def test_after_a_failed_write_the_image_before_it_is_not_confirmed_unread(
    network: DirectoryNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.write(PAD, OLD)
    with monkeypatch.context() as broken:
        fail_durable(broken, "sync_folder", errno.EIO)  # after the rename: the new image is there
        with pytest.raises(StorageFailure):
            network.write(PAD, NEW)
    with pytest.raises(PadConflict):
        network.confirm(PAD, OLD.digest)
    network.confirm(PAD, NEW.digest)


def test_reserving_does_not_sync_the_empty_file(
    network: DirectoryNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.reserve(make_pad(1))
    pad_file(tmp_path).unlink()
    calls = record_durable(monkeypatch)
    network.reserve(PAD)
    assert [name for name, _ in calls] == ["open_new"]


def test_threads_that_make_the_same_folder_at_once_all_find_it_durable(
    network: DirectoryNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held between mkdir and sync, a thread must not let another one finish on a folder nobody has synced."""
    made, let_go = threading.Event(), threading.Event()
    real_sync = durable.sync_folder
    root_syncs: list[str] = []

    def slow_first(path: Path) -> None:
        if path == tmp_path:
            root_syncs.append(threading.current_thread().name)
            if len(root_syncs) == 1:
                made.set()
                assert let_go.wait(PATIENCE)
        real_sync(path)

    monkeypatch.setattr(durable, "sync_folder", slow_first)
    first = threading.Thread(target=network.write, args=(PAD, OLD), daemon=True)
    first.start()
    assert made.wait(PATIENCE)
    network.write(PAD, OLD)
    synced_by_us = threading.current_thread().name in root_syncs
    let_go.set()
    first.join(PATIENCE)
    assert synced_by_us
    assert not first.is_alive()


# -- temporary files


def make_temporary(root: Path, name: str, age: float) -> Path:
    path = root / NAME / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"part of an image")
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_temporary_files_older_than_a_day_are_removed_and_nothing_else(network: DirectoryNetwork, tmp_path: Path) -> None:
    day = 24 * 3600
    old = make_temporary(tmp_path, f"{PAD.address}.0123456789abcdef.tmp", day + 60)
    kept = [
        make_temporary(tmp_path, f"{PAD.address}.1123456789abcdef.tmp", day - 60),
        make_temporary(tmp_path, "notes.tmp", 10 * day),
        make_temporary(tmp_path, make_pad(3).address, 10 * day),
    ]
    network.write(PAD, OLD)
    assert not old.exists()
    assert all(path.exists() for path in kept)


def test_a_folder_is_cleaned_once_and_never_by_a_reader(network: DirectoryNetwork, tmp_path: Path) -> None:
    name = f"{PAD.address}.0123456789abcdef.tmp"
    reader = DirectoryNetwork(tmp_path, PAD_SIZE)
    network.write(PAD, OLD)
    temporary = make_temporary(tmp_path, name, 10**6)
    reader.read(PAD)
    network.write(PAD, NEW)
    assert temporary.exists()


def test_cleaning_that_fails_does_not_fail_the_write(
    network: DirectoryNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_temporary(tmp_path, f"{PAD.address}.0123456789abcdef.tmp", 10**6)
    fail_durable(monkeypatch, "remove", errno.EACCES)
    network.write(PAD, OLD)
    assert network.read(PAD) == OLD.data


# -- modes


def test_files_and_folders_are_for_their_owner_only(network: DirectoryNetwork, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        network.reserve(PAD)
        reserved = stat.S_IMODE(pad_file(tmp_path).stat().st_mode)
        network.write(PAD, OLD)
    finally:
        os.umask(before)
    assert reserved == 0o600
    assert stat.S_IMODE(pad_file(tmp_path).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o700


# -- reading


def test_short_reads_are_continued(network: DirectoryNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(range(256))
    network.write(PAD, make_image(data))
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: real(fd, min(length, 7), offset))
    assert network.read(PAD) == data
    assert network.read(PAD, 5, 100) == data[5:105]
    with pytest.raises(PadConflict):
        network.confirm(PAD, make_image(b"other").digest)
    network.confirm(PAD, make_image(data).digest)


def test_never_more_than_a_pad_is_read_of_a_file_somebody_made_longer(network: DirectoryNetwork, tmp_path: Path) -> None:
    network.reserve(PAD)
    os.truncate(pad_file(tmp_path), 1024**4)
    assert len(network.read(PAD)) == PAD_SIZE
    assert len(network.read(PAD, 0, 1024**3)) == PAD_SIZE
    assert network.read(PAD, PAD_SIZE) == b""


def test_a_fifo_in_the_place_of_a_pad_does_not_block(network: DirectoryNetwork, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    os.mkfifo(pad_file(tmp_path))
    reader = threading.Thread(target=network.read, args=(PAD,), daemon=True)
    reader.start()
    reader.join(PATIENCE)
    assert not reader.is_alive()


def test_threads_share_a_folder_without_disturbing_each_other(network: DirectoryNetwork, tmp_path: Path) -> None:
    pads = [pad for pad in map(make_pad, range(2000)) if pad.address[:2] == NAME]
    assert len(pads) >= 3
    run_threads(partial(network.write, pad, make_image(pad.address.encode())) for pad in pads)
    assert files(tmp_path) == sorted(pad.address for pad in pads)
