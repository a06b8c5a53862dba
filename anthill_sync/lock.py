"""The store's lock: ``flock`` on one file that is never unlinked, so there is no stale lock to judge."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from . import durable
from .errors import ConfigurationError, LocalIOError, PermissionRefused, StoreLocked

_SIGNATURE_BYTES = 100  # more than a pid and a time take, blanks behind them
POLL_SECONDS = 0.05  # between two tries; flock itself cannot wait with a limit


class FileLock:
    """One process's hold on ``path``. Not reentrant; the caller serialises ``acquire`` and ``release``."""

    def __init__(self, path: Path, sleep: Callable[[float], object] = time.sleep) -> None:
        self._path = path
        self._sleep = sleep
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        return self._fd is not None

    def acquire(self, wait: float) -> None:
        """Take the lock within ``wait`` seconds, else ``StoreLocked`` naming who holds it and since when."""
        fd = self._open()
        deadline = time.monotonic() + wait
        try:
            while not try_flock(fd):
                if time.monotonic() >= deadline:
                    raise StoreLocked(f"{self._path.parent}: another run holds the lock ({_holder(fd)}); try again later")
                self._sleep(POLL_SECONDS)
            self._fd = fd
            _sign(fd)
        except BaseException:
            if self._fd == fd:
                self._fd = None
            os.close(fd)
            raise

    def release(self) -> None:
        """Give the lock back; without holding it, nothing happens."""
        fd, self._fd = self._fd, None
        if fd is not None:
            try:
                fcntl.flock(fd, fcntl.LOCK_UN)  # closing alone frees nothing while a forked process has a copy
            finally:
                os.close(fd)

    def forget_after_fork(self) -> None:
        """In a forked child: close its copy of the descriptor. The parent keeps the lock."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise PermissionRefused(f"{self._path}: {error.strerror}; this store can only be read") from error
            raise LocalIOError(f"{self._path}: {error.strerror}") from error


def check_flock(path: Path) -> None:
    """Refuse a file system on which ``flock`` does not exclude: ``ConfigurationError``."""
    first, second = (os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for _ in range(2))
    try:
        if not try_flock(first) or try_flock(second):
            raise ConfigurationError(f"{path.parent}: flock does not work on this file system; choose a home on a local disk")
    finally:
        os.close(first)
        os.close(second)


def try_flock(fd: int) -> bool:
    """True when the open file is locked for this process now; ``ConfigurationError`` where that cannot work."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise ConfigurationError(f"flock does not work on this file system: {error.strerror}") from error
    return True


def _sign(fd: int) -> None:
    """Leave pid and time for the message of whoever waits. Not synced, and no error when the disk is full: it matters
    to the living only. Written over what is there, at one length: a file that was truncated is sent to the disk by ext4
    when it is closed, which takes as long as all the rest of taking the lock."""
    text = json.dumps({"pid": os.getpid(), "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")})
    with suppress(OSError):
        durable.write_at(fd, text.ljust(_SIGNATURE_BYTES).encode(), 0)


def _holder(fd: int) -> str:
    try:
        fields = json.loads(os.pread(fd, 200, 0))
        return f"pid {fields['pid']} since {fields['since']}"
    except (ValueError, KeyError, TypeError, OSError):
        return "it did not say which pid"
