"""Pads as files of one folder, on this machine or on a mounted one: the embedded network.

A pad is the file ``root/<first two characters of its address>/<address>``; a reserved, empty pad is
an empty file. Folders have mode 0700, files 0600. An image is written to a temporary file beside
the pad's, synced, and renamed over it, then the folder is synced: whoever is killed, and whenever
the power fails, the pad holds the old image or the new one. Whoever renames holds a lock on the folder and has looked
at the counter of what is there: of two homes that write a pad in the same moment, one is told.

``root`` itself is never created: a disk that is not mounted must not be mistaken for an empty one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from blake3 import blake3

from .. import durable
from ..errors import (
    AccessDenied,
    NetworkError,
    NetworkNotFound,
    OutOfSpace,
    PadConflict,
    PadNotFound,
    StorageFailure,
    TransientNetworkError,
)
from .base import Buffer, Image, Pad, Properties
from .local import START_SIZE, check_fits, is_repeat, local_properties

_TEMPORARY = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{16}\.tmp")
_TEMPORARY_KEPT = 24 * 3600.0  # seconds; no write lasts that long, so an older file's writer is dead
_TURN_WAIT = 3.0  # seconds for somebody else's look and rename: one who stopped in between must not stop all others
_TURN_PAUSE = 0.002  # seconds between two tries; flock itself cannot wait with a limit
_HASH_STEP = 1024 * 1024  # bytes read at once to compute a digest

_KINDS: dict[int, type[NetworkError]] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), OutOfSpace),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), AccessDenied),
    **dict.fromkeys(
        (errno.EMFILE, errno.ENFILE, errno.EINTR, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT), TransientNetworkError
    ),
}  # every other number: StorageFailure


class DirectoryNetwork:
    """Pads of at most ``pad_size`` bytes as files under ``root``, which has to exist."""

    def __init__(self, root: Path, pad_size: int) -> None:
        self._root = root
        self._folders: dict[str, Path] = {}  # those whose entry in the root is known to be durable
        self._written: dict[str, bytes] = {}  # address -> digest, between a write and its confirm
        self._begun: set[str] = set()  # addresses of writes that have not returned: the next one may be a repeat
        self._properties = local_properties("dir", pad_size)

    @property
    def properties(self) -> Properties:
        """Facts that do not change while the network is open."""
        return self._properties

    def reserve(self, pad: Pad) -> None:
        """Create the pad's empty file; ``PadConflict`` if it is there and not empty.

        The file is not synced: should power loss take it away, the pad's first write finds it
        absent instead of empty, and takes either.
        """
        with self._translated("reserve", pad):
            path = self._folder(pad) / pad.address
            try:
                os.close(durable.open_new(path))
            except FileExistsError:
                if path.stat().st_size:
                    raise PadConflict(f"pad {path} holds an image", pad=pad.address) from None

    def write(self, pad: Pad, image: Image) -> None:
        """Replace the pad's file, unless its counter is not below; a first image only where it is absent or empty."""
        check_fits(pad, image, self._properties.pad_size)
        self._written.pop(pad.address, None)
        with self._translated("write", pad):
            folder = self._folder(pad)
            path, failed = folder / pad.address, pad.address in self._begun
            self._begun.add(pad.address)
            if not (failed and _is_repeat(path, pad, image)):  # else only what is renamed is compared: once, and for sure
                _replace(path, pad, image)
            durable.sync_folder(folder)  # for a repeat too: the first attempt may have failed just before this
        self._begun.discard(pad.address)
        self._written[pad.address] = image.digest

    def confirm(self, pad: Pad, digest: bytes) -> None:
        """Free of cost once after each write, whose return proved it; otherwise the file is read."""
        if self._written.pop(pad.address, None) == digest:
            return
        with self._translated("confirm", pad):
            with _opened(self._path(pad)) as fd:
                found = _digest(fd)
            if found != digest:
                raise PadConflict(f"pad {self._path(pad)} holds another image than the one written", pad=pad.address)
            durable.sync_folder(self._folder(pad))

    def read(self, pad: Pad, offset: int = 0, length: int | None = None) -> bytes:
        """The file's bytes from ``offset``; never more than ``pad_size`` of them, however long the file is."""
        with self._translated("read", pad), _opened(self._path(pad)) as fd:
            end = min(os.fstat(fd).st_size, self._properties.pad_size)
            return _read_range(fd, offset, end if length is None else min(end, offset + length))

    def close(self) -> None:
        """Nothing is held open between calls."""

    def _path(self, pad: Pad) -> Path:
        return self._root / pad.address[:2] / pad.address

    def _folder(self, pad: Pad) -> Path:
        return self._folders.get(pad.address[:2]) or self._open_folder(pad.address[:2])

    def _open_folder(self, name: str) -> Path:
        """Make the folder if need be, make its entry durable, and clean it: once per folder and process.

        No lock: two threads may both do this, and each returns only after its own sync of the root.
        """
        folder = self._root / name
        durable.make_folder(folder)
        with suppress(OSError):  # cleaning never fails a write
            _remove_abandoned(folder)
        return self._folders.setdefault(name, folder)

    @contextmanager
    def _translated(self, step: str, pad: Pad) -> Iterator[None]:
        """The border: no OSError leaves this module."""
        try:
            yield
        except OSError as error:
            raise self._translate(error, step, pad) from error

    def _translate(self, error: OSError, step: str, pad: Pad) -> NetworkError:
        kind = _KINDS.get(error.errno or 0, StorageFailure)
        why = error.strerror or str(error)
        if error.errno in (errno.ENOENT, errno.ENOTDIR) and not os.path.isdir(self._root):
            kind, why = NetworkNotFound, f"there is no folder {self._root}"
        elif error.errno == errno.ENOENT and step in ("read", "confirm"):
            kind = PadNotFound
        elif error.errno == errno.ENOENT:  # somebody removed the folder; the repeat makes it again
            self._folders.pop(pad.address[:2], None)
            kind = TransientNetworkError
        return kind(f"cannot {step} {self._path(pad)}: {why}", pad=pad.address)


def _replace(path: Path, pad: Pad, image: Image) -> None:
    """Write the image beside ``path`` and rename it over; the entry is durable once the folder is synced."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        _fill(temporary, image.data)
        with _turn(path.parent):
            if _is_repeat(path, pad, image):
                durable.remove(temporary)
            else:
                durable.rename(temporary, path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            durable.remove(temporary)
        raise


def _is_repeat(path: Path, pad: Pad, image: Image) -> bool:
    try:
        with _opened(path) as fd:
            return is_repeat(pad, image, _read_range(fd, 0, START_SIZE), lambda: _digest(fd))
    except FileNotFoundError:
        return False


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Nobody else replaces a pad of this folder meanwhile, from whatever thread, process or home. It lasts for a look and a
    rename; where the file system has no such locks, somebody else may come between the two."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _TURN_WAIT
        while not _locked(fd):
            if time.monotonic() >= deadline:
                raise TransientNetworkError(f"somebody else has been writing to {folder} for {_TURN_WAIT:g} seconds")
            time.sleep(_TURN_PAUSE)
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)  # closing alone frees nothing while a forked process has a copy
        os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def _fill(path: Path, data: Buffer) -> None:
    # Preallocating the file's length was measured and does not help: one large write gets one extent anyway.
    fd = durable.open_new(path)
    try:
        durable.write_all(fd, data)
        durable.sync(fd)
    finally:
        os.close(fd)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    # O_NONBLOCK changes nothing for a file, and keeps a fifo somebody put there from blocking us for ever.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield fd
    finally:
        os.close(fd)


def _read_range(fd: int, start: int, end: int) -> bytes:
    """Bytes ``start`` to ``end``, over short reads, or to where the file ends."""
    parts: list[bytes] = []
    while start < end and (part := os.pread(fd, end - start, start)):
        parts.append(part)
        start += len(part)
    return b"".join(parts)


def _digest(fd: int) -> bytes:
    """BLAKE3 of the whole file, first 16 bytes, in constant memory."""
    state, offset = blake3(), 0
    while part := os.pread(fd, _HASH_STEP, offset):
        state.update(part)
        offset += len(part)
    return state.digest(length=16)


def _remove_abandoned(folder: Path) -> None:
    """Remove what writers that were killed left behind."""
    oldest = time.time() - _TEMPORARY_KEPT
    with os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name) and entry.stat(follow_symlinks=False).st_mtime < oldest:
                durable.remove(Path(entry.path))
