"""Two writers at one directory network at once, each sure that nobody else is there: one replaces the pad, the other is told."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anthill_sync import durable
from anthill_sync.errors import PadConflict, TransientNetworkError
from anthill_sync.networks import directory
from anthill_sync.networks.directory import DirectoryNetwork
from tests.support import make_image, make_pad, make_pad_image

PAD = make_pad(1)
NAME = PAD.address[:2]
OLD, NEW = make_image(b"the old image"), make_image(b"the new image", counter=2)


@pytest.fixture
def network(tmp_path: Path) -> DirectoryNetwork:
    return DirectoryNetwork(tmp_path, 16 * 1024)


def pad_file(root: Path) -> Path:
    return root / NAME / PAD.address


def files(root: Path) -> list[str]:
    """Names of all files in the pad's folder."""
    return sorted(path.name for path in (root / NAME).iterdir())


def test_an_image_that_came_while_another_was_being_written_stays(
    network: DirectoryNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.write(PAD, make_pad_image(1, b"before"))
    theirs, sync = make_pad_image(2, b"theirs"), durable.sync

    def overtaken(fd: int) -> None:
        sync(fd)
        pad_file(tmp_path).write_bytes(theirs.data)

    monkeypatch.setattr(durable, "sync", overtaken)
    with pytest.raises(PadConflict, match="counter 2"):
        network.write(PAD, make_pad_image(2, b"ours"))
    assert pad_file(tmp_path).read_bytes() == theirs.data
    assert files(tmp_path) == [PAD.address]


@pytest.fixture
def other_writer(tmp_path: Path) -> Iterator[int]:
    """The descriptor of somebody who is between look and rename in the pad's folder."""
    (tmp_path / NAME).mkdir()
    fd = os.open(tmp_path / NAME, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    yield fd
    os.close(fd)


def test_who_looks_and_renames_does_so_alone_and_waits_for_others_only_so_long(
    network: DirectoryNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_writer: int
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(directory, "_TURN_WAIT", 0.0)
    monkeypatch.setattr(time, "sleep", waited.append)
    with pytest.raises(TransientNetworkError, match="somebody else"):
        network.write(PAD, OLD)
    assert files(tmp_path) == []
    monkeypatch.setattr(directory, "_TURN_WAIT", 3600.0)
    monkeypatch.setattr(time, "sleep", lambda seconds: fcntl.flock(other_writer, fcntl.LOCK_UN))
    network.write(PAD, OLD)
    assert files(tmp_path) == [PAD.address]


def test_a_process_forked_in_between_keeps_nobody_out(
    network: DirectoryNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, go_on = os.pipe()
    children: list[int] = []
    rename = durable.rename

    def forks(source: Path, target: Path) -> None:
        pid = os.fork()
        if not pid:
            os.close(go_on)
            os.read(end, 1)
            os._exit(0)
        children.append(pid)
        rename(source, target)

    with monkeypatch.context() as forking:
        forking.setattr(durable, "rename", forks)
        network.write(PAD, OLD)
    monkeypatch.setattr(directory, "_TURN_WAIT", 0.0)
    network.write(PAD, NEW)
    os.close(go_on)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0]


def test_a_file_system_without_locks_is_written_all_the_same(
    network: DirectoryNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(fd: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    network.write(PAD, OLD)
    network.write(PAD, NEW)
    assert pad_file(tmp_path).read_bytes() == NEW.data
