"""Durable file operations: the only code that writes, syncs, renames or removes a file of a store.

One small seam, so that the order of writes can be recorded, failed or killed at any step by a test.
Nothing here retries: a failed ``fsync`` may have dropped the very pages it was asked about.
"""

from __future__ import annotations

import fcntl
import itertools
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync alone stops at the drive's cache


def open_new(path: Path, mode: int = 0o600) -> int:
    """Create ``path`` exclusively for writing; FileExistsError if it is there."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)


def open_append(path: Path) -> int:
    """Open an existing file for appending."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data``; a short write is continued, and fails with the reason when nothing fits."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_at(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


def begin_sync(fd: int, offset: int, length: int) -> None:
    """Let the system begin to write these bytes to the disk, so that the sync at the end finds most of them there: a quarter
    of the time of a file of 512 MiB. Promises nothing, and where the system cannot it does nothing."""
    with suppress(AttributeError, OSError):
        os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)


def sync(fd: int) -> None:
    """Make the file's contents and size survive power loss."""
    if _FULL_SYNC is not None:
        fcntl.fcntl(fd, _FULL_SYNC)
    else:
        os.fdatasync(fd)


def sync_folder(path: Path) -> None:
    """Make the folder's entries (creations, renames, removals) survive power loss."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def rename(source: Path, target: Path) -> None:
    """Replace ``target`` by ``source`` in one step; durable once the folder is synced."""
    os.replace(source, target)


def link(source: Path, target: Path) -> None:
    """Give a file a second name; FileExistsError if something has it. Durable once the folder is synced."""
    os.link(source, target)


def keep(path: Path) -> Path:
    """Give a file that is about to be replaced the free name ``NAME.kept-N`` beside it, under which it stays. A name that
    an interrupted run gave it already is used again."""
    for number in itertools.count(1):
        kept = path.with_name(f"{path.name}.kept-{number}")
        try:
            link(path, kept)
        except FileExistsError:
            if not os.path.samefile(path, kept):
                continue
        sync_folder(path.parent)
        return kept
    raise AssertionError("numbers never end")


def remove(path: Path) -> None:
    """Remove a file; one that is not there is no error."""
    path.unlink(missing_ok=True)


def make_folder(path: Path, mode: int = 0o700) -> None:
    """Create one folder, or find it there; its entry in the parent is durable either way: whoever made it may not
    have synced it yet."""
    with suppress(FileExistsError):
        os.mkdir(path, mode)
    sync_folder(path.parent)


def replace_file(
    path: Path,
    data: bytes | Iterable[bytes],
    mode: int = 0o600,
    *,
    suffix: str = ".new",
    prove: Callable[[Path], object] | None = None,
) -> None:
    """Put ``data``, whole or in parts, in place of ``path``: temporary file, write, sync, rename, sync the folder.

    The temporary file has the name and ``suffix``; where several processes may replace the same file at once, each
    needs its own. ``prove`` gets the temporary file before the rename, and when it raises, ``path`` is as it was.
    """
    temporary = path.with_name(path.name + suffix)
    remove(temporary)
    try:
        _write_new(temporary, [data] if isinstance(data, bytes) else data, mode)
        if prove is not None:
            prove(temporary)
    except BaseException:
        with suppress(OSError):  # the first failure is the one that matters
            remove(temporary)
        raise
    rename(temporary, path)
    sync_folder(path.parent)


def _write_new(path: Path, parts: Iterable[bytes], mode: int) -> None:
    fd = open_new(path, mode)
    try:
        for part in parts:
            write_all(fd, part)
        sync(fd)
    finally:
        os.close(fd)
