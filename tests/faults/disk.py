"""A disk that fails: an error of the operating system at one file operation, and writes that are short."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from .points import Point, Points, installed, what


class FailingDisk(Points):
    """At the ``at``-th of the points of this name, all of them file operations, the operating system reports ``number``,
    once."""

    def __init__(self, name: str = "", at: int = 0, number: int = 0) -> None:
        super().__init__()
        self.number = number
        self.files: list[Point] = []  # points passed that are file operations
        self.repeated = 0  # syncs of a file whose sync had failed
        self._unsynced: int | None = None  # that file's inode
        self._held: list[int] = []  # descriptors that keep it
        self._name, self._fault, self._passed = name, at, 0

    def _reach(self, point: Point, prepare: Callable[[], object] | None = None) -> None:
        if point.kind.startswith("network."):
            return
        with self._lock:
            self.files.append(point)
            self._passed += point.is_a(self._name)
            if self.hit is not None or self._passed != self._fault:
                return
            self.hit = point
            if prepare is not None:
                prepare()
        raise OSError(self.number, os.strerror(self.number))

    def by_descriptor(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """A sync fails in the operating system, below."""
        return real if name == "sync" else super().by_descriptor(name, real)

    def by_path(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        return real if name == "sync_folder" else super().by_path(name, real)

    def sync(self, real: Callable[[int], object]) -> Callable[[int], object]:
        """A call of the operating system that syncs; watched, for it must not be repeated."""

        def call(fd: int) -> object:
            found = os.fstat(fd)
            self.repeated += found.st_ino == self._unsynced
            try:
                return self.around(f"sync {self._what(fd)}", partial(real, fd))
            except OSError:
                if stat.S_ISREG(found.st_mode):
                    self._unsynced = found.st_ino
                    self._held.append(os.dup(fd))  # else another file may get this inode's number once the file is gone
                raise

        return call

    def _what(self, fd: int) -> str:
        return what(self._paths[fd]) if stat.S_ISREG(os.fstat(fd).st_mode) else "folder"

    @contextmanager
    def below(self) -> Iterator[None]:
        """Syncs, and reads of files by position, as the operating system does them."""
        names = ("fsync", "fdatasync", "pread")
        real = {name: getattr(os, name) for name in names if hasattr(os, name)}

        def pread(fd: int, *more: Any) -> Any:
            return self.around("read", partial(real["pread"], fd, *more))

        for name, function in real.items():
            setattr(os, name, pread if name == "pread" else self.sync(function))
        try:
            yield
        finally:
            for name, function in real.items():
                setattr(os, name, function)
            while self._held:
                os.close(self._held.pop())


@contextmanager
def failing(name: str = "", at: int = 0, number: int = 0) -> Iterator[FailingDisk]:
    """Stores opened inside the ``with`` are on such a disk."""
    disk = FailingDisk(name, at, number)
    with installed(disk), disk.below():
        yield disk


class ShortWrites:
    """``os`` as ``durable`` sees it, on a system that never writes more than ``most`` bytes at once."""

    def __init__(self, most: int) -> None:
        self.cut = 0  # writes that were made shorter
        self._most = most

    def write(self, fd: int, data: memoryview) -> int:
        return os.write(fd, self._shorter(data))

    def pwrite(self, fd: int, data: memoryview, offset: int) -> int:
        return os.pwrite(fd, self._shorter(data), offset)

    def _shorter(self, data: memoryview) -> memoryview:
        self.cut += len(data) > self._most
        return data[: self._most]

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)
