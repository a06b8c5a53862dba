"""The directory network when things go wrong: what failures and kills leave behind, and what is said."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import durable
from anthill_sync.errors import (
    AccessDenied,
    NetworkError,
    NetworkNotFound,
    OutOfSpace,
    StorageFailure,
    TransientNetworkError,
)
from anthill_sync.networks.base import Image
from anthill_sync.networks.directory import DirectoryNetwork
from tests.support import fail_durable, make_image, make_pad

PAD_SIZE = 16 * 1024
PAD = make_pad(1)
NAME = PAD.address[:2]
OLD, NEW = make_image(b"the old image"), make_image(b"the new image", counter=2)
CALLS: dict[str, Callable[[DirectoryNetwork], object]] = {
    "reserve": lambda network: network.reserve(PAD),
    "write": lambda network: network.write(PAD, NEW),
    "confirm": lambda network: network.confirm(PAD, NEW.digest),
    "read": lambda network: network.read(PAD),
}


@pytest.fixture
def network(tmp_path: Path) -> DirectoryNetwork:
    return DirectoryNetwork(tmp_path, PAD_SIZE)


def pad_file(root: Path) -> Path:
    return root / NAME / PAD.address


def files(root: Path) -> list[str]:
    """Names of all files in the pad's folder."""
    return sorted(path.name for path in (root / NAME).iterdir())


@contextmanager
def limited(kind: int, soft: int) -> Iterator[None]:
    """One of this process's limits lowered."""
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a file system here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


# -- what failures leave behind


@pytest.mark.parametrize("step", ["open_new", "write_all", "sync", "rename"])
def test_a_write_that_fails_leaves_the_old_image_and_no_temporary_file(
    network: DirectoryNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    network.write(PAD, OLD)
    with monkeypatch.context() as broken:
        fail_durable(broken, step, errno.EIO)
        with pytest.raises(StorageFailure):
            network.write(PAD, NEW)
    assert files(tmp_path) == [PAD.address]
    assert network.read(PAD) == OLD.data
    network.write(PAD, NEW)
    assert network.read(PAD) == NEW.data


def test_a_failed_cleaning_does_not_hide_the_first_error(
    network: DirectoryNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.write(PAD, OLD)
    fail_durable(monkeypatch, "sync", errno.ENOSPC)
    fail_durable(monkeypatch, "remove", errno.EIO)
    with pytest.raises(OutOfSpace):
        network.write(PAD, NEW)


def test_no_descriptor_is_left_open(network: DirectoryNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    network.write(PAD, OLD)
    before = len(os.listdir("/dev/fd"))
    with monkeypatch.context() as broken:
        fail_durable(broken, "sync", errno.EIO)
        with pytest.raises(StorageFailure):
            network.write(PAD, NEW)
    network.write(PAD, NEW)
    network.read(PAD)
    network.confirm(PAD, NEW.digest)
    network.confirm(PAD, NEW.digest)
    assert len(os.listdir("/dev/fd")) == before


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from anthill_sync import durable
from anthill_sync.networks.directory import DirectoryNetwork
from tests.support import make_image, make_pad

root, step, when = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
network = DirectoryNetwork(root, 16 * 1024)
network.reserve(make_pad(2))
network._folder(make_pad(1))
real = getattr(durable, step)

def killing(*arguments):
    if when == "after":
        real(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(durable, step, killing)
network.write(make_pad(1), make_image(b"the new image", counter=2))
"""


@pytest.mark.parametrize(
    ("step", "when", "expected"),
    [
        ("open_new", "after", OLD),
        ("write_all", "after", OLD),
        ("rename", "before", OLD),
        ("rename", "after", NEW),
        ("sync_folder", "after", NEW),
    ],
)
def test_a_killed_writer_leaves_the_old_image_or_the_new_one(
    network: DirectoryNetwork, tmp_path: Path, step: str, when: str, expected: Image
) -> None:
    network.write(PAD, OLD)
    here = Path(__file__).parent.parent
    killed = subprocess.run([sys.executable, "-c", KILLED_AT, tmp_path, step, when], cwd=here, timeout=60, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert pad_file(tmp_path).read_bytes() == expected.data
    network.write(PAD, NEW)
    assert network.read(PAD) == NEW.data


# -- places that are not there


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("there", ["nothing", "a file"])
def test_a_missing_root_is_named_and_never_made(tmp_path: Path, call: str, there: str) -> None:
    root = tmp_path / "not-mounted"
    if there == "a file":
        root.write_bytes(b"")
    with pytest.raises(NetworkNotFound, match="not-mounted"):
        CALLS[call](DirectoryNetwork(root, PAD_SIZE))
    assert not root.is_dir()


def test_a_folder_removed_while_in_use_is_made_again_by_the_repeat(network: DirectoryNetwork, tmp_path: Path) -> None:
    network.reserve(PAD)
    pad_file(tmp_path).unlink()
    (tmp_path / NAME).rmdir()
    with pytest.raises(TransientNetworkError):
        network.write(PAD, OLD)
    network.write(PAD, OLD)
    assert network.read(PAD) == OLD.data


def test_a_file_in_the_place_of_a_folder_is_a_storage_failure(network: DirectoryNetwork, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"")
    for call in CALLS.values():
        with pytest.raises(StorageFailure):
            call(network)


# -- errors


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        *((number, OutOfSpace) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)),
        *((number, AccessDenied) for number in (errno.EACCES, errno.EPERM, errno.EROFS)),
        *(
            (number, TransientNetworkError)
            for number in (errno.EMFILE, errno.ENFILE, errno.EINTR, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT)
        ),
        *((number, StorageFailure) for number in (errno.EIO, errno.ENODEV, errno.ENAMETOOLONG)),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else value.__name__,
)
def test_errors_of_the_system_are_translated_once(
    network: DirectoryNetwork, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[NetworkError]
) -> None:
    network.write(PAD, OLD)

    def failing(*arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(durable, "open_new", failing)
    monkeypatch.setattr(os, "pread", failing)
    monkeypatch.setattr(network, "_written", {})
    for call in CALLS.values():
        with pytest.raises(NetworkError) as caught:
            call(network)
        assert type(caught.value) is kind
        assert os.strerror(number) in str(caught.value)
        assert caught.value.context["pad"] == PAD.address
        assert isinstance(caught.value.__cause__, OSError)


def test_a_full_disk_is_out_of_space_and_keeps_the_old_image(small_disk: Path) -> None:
    network = DirectoryNetwork(small_disk, 1024 * 1024)
    network.write(PAD, OLD)
    with pytest.raises(OutOfSpace) as caught:
        network.write(PAD, make_image(bytes(512 * 1024), counter=2))
    assert caught.value.exit_code == 73
    assert files(small_disk) == [PAD.address]
    network.write(PAD, NEW)
    assert network.read(PAD) == NEW.data


def test_a_disk_mounted_read_only_is_access_denied_and_can_be_read(small_disk: Path) -> None:
    DirectoryNetwork(small_disk, PAD_SIZE).write(PAD, OLD)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    network = DirectoryNetwork(small_disk, PAD_SIZE)
    with pytest.raises(AccessDenied):
        network.write(PAD, NEW)
    assert network.read(PAD) == OLD.data
    network.confirm(PAD, OLD.digest)


def test_a_short_write_that_cannot_go_on_is_out_of_space(network: DirectoryNetwork, tmp_path: Path) -> None:
    network.write(PAD, OLD)
    with limited(resource.RLIMIT_FSIZE, 4096), pytest.raises(OutOfSpace):
        network.write(PAD, make_image(bytes(PAD_SIZE), counter=2))
    assert files(tmp_path) == [PAD.address]
    assert network.read(PAD) == OLD.data


def test_too_many_open_files_is_transient(network: DirectoryNetwork) -> None:
    network.write(PAD, OLD)
    with limited(resource.RLIMIT_NOFILE, 3), pytest.raises(TransientNetworkError):
        network.read(PAD)
    assert network.read(PAD) == OLD.data
