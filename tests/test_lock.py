"""The lock: one writer at a time, who says who it is, and no lock outlives its holder."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from anthill_sync import lock as lock_module
from anthill_sync.errors import (
    ConfigurationError,
    LocalIOError,
    PermissionRefused,
    StoreLocked,
)
from anthill_sync.journal import LOCK_NAME, Journal
from anthill_sync.lock import FileLock, check_flock
from tests.support import PATIENCE, fail_durable

pytest_plugins = ["tests.journal_fixtures"]


HOLD = """
import sys
from pathlib import Path
from anthill_sync.lock import FileLock
lock = FileLock(Path(sys.argv[1]))
lock.acquire(0)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the store's lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home / LOCK_NAME)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_one_of_two_processes_holds_the_lock_and_the_other_hears_who_and_since_when(
    home: Path, holder: subprocess.Popen[str], opened: Callable[[], Journal]
) -> None:
    with pytest.raises(StoreLocked, match=rf"pid {holder.pid} since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{{4}}") as caught:
        opened().take(0)
    assert caught.value.exit_code == 75
    assert str(home) in str(caught.value)


def test_a_killed_holder_leaves_no_lock(home: Path, holder: subprocess.Popen[str], opened: Callable[[], Journal]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait(PATIENCE)
    writer = opened()
    writer.take(0)
    assert writer.held


def test_waiting_for_the_lock_ends_after_lock_wait(
    home: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, slept = 1000.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    monkeypatch.setattr(lock_module, "time", SimpleNamespace(monotonic=lambda: now))
    lock = FileLock(home / LOCK_NAME, sleep)
    with pytest.raises(StoreLocked):
        lock.acquire(3.0)
    assert 3.0 <= sum(slept) <= 3.1
    assert not lock.held


def test_waiting_ends_when_the_lock_comes_free(home: Path) -> None:
    first, slept = FileLock(home / LOCK_NAME), []
    first.acquire(0)

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            first.release()

    second = FileLock(home / LOCK_NAME, sleep)
    second.acquire(PATIENCE)
    assert (len(slept), second.held, first.held) == (3, True, False)
    second.release()


def test_the_lock_file_is_private_and_never_unlinked(home: Path) -> None:
    lock = FileLock(home / LOCK_NAME)
    lock.acquire(0)
    inode = (home / LOCK_NAME).stat().st_ino
    lock.release()
    lock.release()
    assert (home / LOCK_NAME).stat().st_ino == inode
    assert (home / LOCK_NAME).stat().st_mode & 0o777 == 0o600
    assert json.loads((home / LOCK_NAME).read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", '{"pid": 1}'])
def test_a_holder_that_did_not_sign_is_no_error_of_its_own(home: Path, text: str) -> None:
    first, second = FileLock(home / LOCK_NAME), FileLock(home / LOCK_NAME)
    first.acquire(0)
    (home / LOCK_NAME).write_text(text)
    with pytest.raises(StoreLocked, match="did not say which pid"):
        second.acquire(0)
    first.release()


def test_a_full_disk_does_not_keep_the_lock_from_being_taken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_durable(monkeypatch, "write_at", errno.ENOSPC)
    lock = FileLock(home / LOCK_NAME)
    lock.acquire(0)
    assert lock.held
    lock.release()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_lock_that_may_not_be_written_says_so(home: Path) -> None:
    (home / LOCK_NAME).touch(0o400)
    (home / LOCK_NAME).chmod(0o400)
    with pytest.raises(PermissionRefused, match="only be read"):
        FileLock(home / LOCK_NAME).acquire(0)


def test_a_lock_that_is_a_link_is_not_followed(home: Path) -> None:
    (home / LOCK_NAME).symlink_to(home / "elsewhere")
    with pytest.raises(LocalIOError):
        FileLock(home / LOCK_NAME).acquire(0)
    assert not (home / "elsewhere").exists()


def test_a_file_system_whose_flock_does_not_exclude_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_flock(home / LOCK_NAME)
    monkeypatch.setattr(lock_module, "fcntl", SimpleNamespace(flock=lambda fd, how: None, LOCK_EX=2, LOCK_NB=4))
    with pytest.raises(ConfigurationError, match="flock does not work"):
        check_flock(home / LOCK_NAME)


def test_a_file_system_without_flock_is_a_configuration_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock_module, "fcntl", SimpleNamespace(flock=refused, LOCK_EX=2, LOCK_NB=4))
    with pytest.raises(ConfigurationError, match="flock does not work"):
        FileLock(home / LOCK_NAME).acquire(0)


def test_taking_the_lock_again_never_truncates_its_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ext4 sends a file that was truncated to the disk when it is closed."""
    sizes = []
    for pid in (4_194_304, 1):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        lock = FileLock(home / LOCK_NAME)
        lock.acquire(0)
        sizes.append((home / LOCK_NAME).stat().st_size)
        assert json.loads((home / LOCK_NAME).read_text())["pid"] == pid
        lock.release()
    assert len(set(sizes)) == 1
