"""A disk that fails: errors of the operating system at one file operation, and what is asked of it afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from .points import Point, Points, installed


class FailingDisk(Points):
    """At the ``at``-th point that is a file operation (all phases count) the operating system reports ``number``, once."""

    def __init__(self, at: int = 0, number: int = 0) -> None:
        super().__init__()
        self.files: list[Point] = []  # points passed that are file operations
        self.unsynced: int | None = None  # inode of the file whose sync failed
        self.repeated = 0  # syncs of that file that were asked for afterwards
        self._fault, self._number = at, number

    def _reach(self, point: Point, prepare: Callable[[], object] | None = None) -> None:
        if point.kind.startswith("network."):
            return
        with self._lock:
            self.files.append(point)
            if len(self.files) != self._fault:
                return
            self.hit = point
            if prepare is not None:
                prepare()
        raise OSError(self._number, os.strerror(self._number))

    def by_descriptor(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """Besides, count the syncs of each file."""
        inner = super().by_descriptor(name, real)

        def sync(fd: int) -> Any:
            inode = os.fstat(fd).st_ino
            self.repeated += inode == self.unsynced
            try:
                return inner(fd)
            except OSError:
                self.unsynced = inode
                raise

        return sync if name == "sync" else inner

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Reads of files by position are file operations too."""
        real = os.pread

        def pread(fd: int, *more: Any) -> bytes:
            return self.around("read", partial(real, fd, *more))

        os.pread = pread
        try:
            yield
        finally:
            os.pread = real


@contextmanager
def failing(at: int = 0, number: int = 0) -> Iterator[FailingDisk]:
    """Stores opened inside the ``with`` are on such a disk."""
    disk = FailingDisk(at, number)
    with installed(disk), disk.reading():
        yield disk


class ShortWrites:
    """``os`` as ``durable`` sees it, on a system that writes a few bytes only: at the ``at``-th write, or at all of them."""

    def __init__(self, at: int = 0) -> None:
        self.writes = 0
        self._at = at

    def write(self, fd: int, data: memoryview) -> int:
        return os.write(fd, self._cut(data, 1000))

    def pwrite(self, fd: int, data: memoryview, offset: int) -> int:
        return os.pwrite(fd, self._cut(data, 7), offset)

    def _cut(self, data: memoryview, most: int) -> memoryview:
        self.writes += 1
        return data[: min(most, max(1, len(data) // 2))] if self._at in (0, self.writes) else data

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def inodes(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_ino for path in folder.rglob("*") if path.is_file()}
