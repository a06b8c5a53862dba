"""Power loss: the durable operations of a run, recorded, and the states of the disk that may be found after one.

What was written and not synced may be there, or not, or half; an entry of a folder that was not synced may be there or
not, each on its own. Nothing else is promised by POSIX, and no more is assumed here.
"""

from __future__ import annotations

import copy
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anthill_sync import durable

Keep = Callable[[int], int]  # how many of so many unsynced things survive


@dataclass
class Inode:
    """One file: what is safe, and what was written since."""

    safe: bytearray = field(default_factory=bytearray)
    unsynced: list[bytes] = field(default_factory=list)


@dataclass
class Change:
    """One entry of a folder: ``name`` becomes ``inode`` (None: is gone; True: is a folder); ``gone`` vanishes with it."""

    name: Path
    inode: int | bool | None
    gone: Path | None = None


class Disk:
    """Files and folders below ``root``: what is safe, and what is on its way there."""

    def __init__(self, root: Path) -> None:
        self.inodes: list[Inode] = []
        self.entries: dict[Path, int | bool] = {}
        self.unsynced: dict[Path, list[Change]] = {}  # by folder
        for path in sorted(root.rglob("*")):
            self.entries[path] = True if path.is_dir() else self.new_inode(path.read_bytes())

    def new_inode(self, data: bytes = b"") -> int:
        self.inodes.append(Inode(bytearray(data)))
        return len(self.inodes) - 1

    def change(self, change: Change) -> None:
        self.unsynced.setdefault(change.name.parent, []).append(change)

    def sync(self, inode: int) -> None:
        file = self.inodes[inode]
        file.safe += b"".join(file.unsynced)
        file.unsynced.clear()

    def sync_folder(self, folder: Path) -> None:
        for change in self.unsynced.pop(folder, []):
            self.settle(change)

    def settle(self, change: Change) -> None:
        if change.gone is not None:
            self.entries.pop(change.gone, None)
        if change.inode is None:
            self.entries.pop(change.name, None)
        else:
            self.entries[change.name] = change.inode

    def lose_power(self, chance: random.Random, kept: float) -> None:
        """Each unsynced thing survives with probability ``kept``; the last write that does may be cut short."""
        for folder in list(self.unsynced):
            for change in self.unsynced.pop(folder):
                if chance.random() < kept:
                    self.settle(change)
        for file in self.inodes:
            count = sum(chance.random() < kept for _ in file.unsynced)
            if count and kept < 1:
                last = file.unsynced[count - 1]
                file.unsynced[count - 1] = last[: chance.randint(0, len(last))]
            file.safe += b"".join(file.unsynced[:count])
            file.unsynced.clear()

    def restore(self, root: Path, target: Path) -> Path:
        """Build what is safe below ``target`` instead of ``root``."""
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(mode=0o700)
        for path, inode in sorted(self.entries.items()):
            place = target / path.relative_to(root)
            if inode is True:
                place.mkdir(mode=0o700)
            elif place.parent.is_dir():
                place.write_bytes(self.inodes[inode].safe)
                place.chmod(0o600)
        return target


@dataclass
class Recording:
    """``states[n]``: which step had been acknowledged when operation ``n`` began; ``disks[n]``: the disk then."""

    root: Path
    disks: list[Disk] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    step: int = 0  # acknowledged so far


class Recorder:
    """Stands in for ``durable``: does the real thing, one at a time, and the same to a ``Disk``."""

    def __init__(self, root: Path) -> None:
        self.recording = Recording(root)
        self._disk = Disk(root)
        self._lock = threading.RLock()
        self._synced = False  # the operating system was asked to, during the call that is running
        self._open: dict[int, int] = {}  # descriptor -> inode
        self._names: dict[Path, int] = {path: inode for path, inode in self._disk.entries.items() if inode is not True}

    def acknowledge(self) -> None:
        """A mutation has returned."""
        with self._lock:
            self.recording.step += 1

    def call(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*arguments: Any) -> Any:
            with self._lock:
                self.recording.disks.append(copy.deepcopy(self._disk))
                self.recording.steps.append(self.recording.step)
                self._synced = False
                result = real(*arguments)
                if self._synced or not name.startswith("sync"):
                    getattr(self, name)(result, *arguments)
                return result

        return recorded

    def system(self, real: Callable[[int], object]) -> Callable[[int], object]:
        """A sync of the operating system: without one, nothing counts as safe."""

        def sync(fd: int) -> object:
            self._synced = True
            return real(fd)

        return sync

    def open_new(self, fd: int, path: Path, *mode: int) -> None:
        self._open[fd] = self._names[path] = self._disk.new_inode()
        self._disk.change(Change(path, self._names[path]))

    def open_append(self, fd: int, path: Path) -> None:
        self._open[fd] = self._names[path]

    def write_all(self, result: None, fd: int, data: bytes) -> None:
        self._disk.inodes[self._open[fd]].unsynced.append(bytes(data))

    def sync(self, result: None, fd: int) -> None:
        self._disk.sync(self._open[fd])

    def rename(self, result: None, source: Path, target: Path) -> None:
        self._names[target] = self._names.pop(source)
        self._disk.change(Change(target, self._names[target], gone=source))

    def link(self, result: None, source: Path, target: Path) -> None:
        self._names[target] = self._names[source]
        self._disk.change(Change(target, self._names[target]))

    def remove(self, result: None, path: Path) -> None:
        if self._names.pop(path, None) is not None:
            self._disk.change(Change(path, None))

    def sync_folder(self, result: None, path: Path) -> None:
        self._disk.sync_folder(path)

    def mkdir(self, path: Path) -> None:
        self._disk.change(Change(path, True))


@contextmanager
def recording(root: Path) -> Iterator[Recorder]:
    """Everything durable done below ``root`` inside the ``with`` is recorded."""
    recorder = Recorder(root)
    names = ("open_new", "open_append", "write_all", "sync", "rename", "link", "remove", "sync_folder")
    real = {name: getattr(durable, name) for name in names}
    make_folder = durable.make_folder

    def made(path: Path, mode: int = 0o700) -> None:
        if not path.exists():
            recorder.mkdir(path)
        make_folder(path, mode)

    for name in names:
        setattr(durable, name, recorder.call(name, real[name]))
    durable.make_folder = made
    system = {name: getattr(os, name) for name in ("fsync", "fdatasync") if hasattr(os, name)}
    for name, function in system.items():
        setattr(os, name, recorder.system(function))
    try:
        yield recorder
    finally:
        for name, function in system.items():
            setattr(os, name, function)
        durable.make_folder = make_folder
        for name in names:
            setattr(durable, name, real[name])
