"""Power loss: the durable operations of a run, recorded, and the states of the disk that may be found after one.

What was written and not synced may be there, or not, or some of its sectors; an entry of a folder that was not synced
may be there or not, each on its own. Nothing else is promised by POSIX, and no more is assumed here.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class Survival:
    """What is found of what was not synced. ``writes``: the share of sectors that survive. ``sector``: its bytes; 0: all
    unsynced bytes of a file share one fate. ``entries``: the share of the folders' changes that survive; None: the last
    one of each folder alone."""

    name: str
    writes: float
    sector: int
    entries: float | None

    def entry(self, chance: random.Random, last: bool) -> bool:
        """Whether a folder's change survives."""
        return last if self.entries is None else chance.random() < self.entries


SURVIVALS = (
    Survival("writes kept, entries present", 1.0, 0, 1.0),
    Survival("writes kept, entries absent", 1.0, 0, 0.0),
    Survival("writes dropped, entries present", 0.0, 0, 1.0),
    Survival("writes dropped, entries absent", 0.0, 0, 0.0),
    Survival("writes kept, the last entry present", 1.0, 0, None),
    Survival("writes torn at 512 bytes, entries present", 0.5, 512, 1.0),
    Survival("writes torn at 4096 bytes, entries present", 0.5, 4096, 1.0),
    Survival("writes torn at 512 bytes, entries absent", 0.5, 512, 0.0),
    Survival("writes torn at 4096 bytes, each entry on its own", 0.5, 4096, 0.5),
    Survival("each write and each entry on its own", 0.5, 0, 0.5),
)


@dataclass
class Inode:
    """One file: what is safe, and what was written since."""

    safe: bytearray
    unsynced: bytearray = field(default_factory=bytearray)

    def found(self, survival: Survival, chance: random.Random) -> bytes:
        """Its bytes after power loss."""
        if not self.unsynced or survival.writes == 1.0:
            return bytes(self.safe + self.unsynced)
        if not survival.sector:
            return bytes(self.safe + (self.unsynced if chance.random() < survival.writes else b""))
        return self._torn(survival, chance)

    def _torn(self, survival: Survival, chance: random.Random) -> bytes:
        """Some sectors are there; of the others the file has zeros, or ends before them. Half of the times they were
        written in order."""
        data, size, begin = self.safe + self.unsynced, survival.sector, len(self.safe)
        numbers = list(range(begin // size, (len(data) - 1) // size + 1))
        cut = chance.choice([*numbers, numbers[-1] + 1])
        lost = [] if chance.random() < 0.5 else [n for n in numbers if chance.random() >= survival.writes]
        for number in lost:
            first, last = max(begin, number * size), min(len(data), (number + 1) * size)
            data[first:last] = bytes(last - first)
        return bytes(data[: max(begin, min(len(data), cut * size))])


@dataclass(frozen=True)
class Change:
    """One entry of a folder: ``name`` becomes ``inode`` (None: is gone; True: is a folder); ``gone`` vanishes with it."""

    name: Path
    inode: int | bool | None
    gone: Path | None = None


class Disk:
    """Files and folders below ``root``: what is safe, and what is on its way there."""

    def __init__(self, root: Path, before: dict[Path, bytes | bool]) -> None:
        self._root = root
        self._inodes: dict[int, Inode] = {}
        self._entries: dict[Path, int | bool] = {}
        self._unsynced: dict[Path, list[Change]] = {}  # by folder
        for number, (path, data) in enumerate(before.items()):
            self._entries[path] = data if isinstance(data, bool) else number
            if not isinstance(data, bool):
                self._inodes[number] = Inode(bytearray(data))

    # -- what the program does

    def create(self, inode: int, path: Path) -> None:
        self._inodes[inode] = Inode(bytearray())
        self.change(Change(path, inode))

    def write(self, inode: int, data: bytes) -> None:
        self._inodes[inode].unsynced += data

    def sync(self, inode: int) -> None:
        file = self._inodes[inode]
        file.safe += file.unsynced
        file.unsynced.clear()

    def change(self, change: Change) -> None:
        self._unsynced.setdefault(change.name.parent, []).append(change)

    def sync_folder(self, folder: Path) -> None:
        for change in self._unsynced.pop(folder, []):
            _settle(self._entries, change)

    # -- what is found

    @property
    def entangled(self) -> bool:
        """More than one change of a folder is unsynced: their order matters."""
        return any(len(changes) > 1 for changes in self._unsynced.values())

    def found(self, survival: Survival, chance: random.Random, target: Path) -> Path:
        """Build below ``target``, instead of ``root``, what may be found if power is lost now."""
        entries = dict(self._entries)
        for changes in self._unsynced.values():
            for number, change in enumerate(changes, 1):
                if survival.entry(chance, number == len(changes)):
                    _settle(entries, change)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(mode=0o700)
        for path, inode in sorted(entries.items()):
            place = target / path.relative_to(self._root)
            if inode is True:
                place.mkdir(mode=0o700)
            elif place.parent.is_dir():
                place.write_bytes(self._inodes[inode].found(survival, chance))
                place.chmod(0o600)
        return target


def _settle(entries: dict[Path, int | bool], change: Change) -> None:
    if change.gone is not None:
        entries.pop(change.gone, None)
    if change.inode is None:
        entries.pop(change.name, None)
    else:
        entries[change.name] = change.inode


Operation = Callable[[Disk], None]


@dataclass
class Recording:
    """The durable operations of a run. ``steps[n]``: how many mutations had been acknowledged when operation n began."""

    root: Path
    before: dict[Path, bytes | bool]  # True: a folder
    operations: list[Operation] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    step: int = 0  # acknowledged in all

    @property
    def moments(self) -> int:
        """Before each operation, and after the last."""
        return len(self.operations) + 1

    def disks(self) -> Iterator[tuple[int, Disk]]:
        """(mutations acknowledged, the disk) at each moment; it is the same object that goes on."""
        disk = Disk(self.root, self.before)
        for operation, step in zip(self.operations, self.steps, strict=True):
            yield step, disk
            operation(disk)
        yield self.step, disk


class Recorder:
    """Stands in for ``durable``: does the real thing, one at a time, and writes it down."""

    def __init__(self, root: Path) -> None:
        before: dict[Path, bytes | bool] = {path: path.is_dir() or path.read_bytes() for path in sorted(root.rglob("*"))}
        self.recording = Recording(root, before)
        self._names = {path: number for number, path in enumerate(before)}
        self._next = len(before)
        self._lock = threading.RLock()
        self._synced = False  # the operating system was asked to, during the call that is running
        self._open: dict[int, int] = {}  # descriptor -> inode

    def acknowledge(self) -> None:
        """A mutation has returned."""
        with self._lock:
            self.recording.step += 1

    def call(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*arguments: Any) -> Any:
            with self._lock:
                self._synced = False
                result = real(*arguments)
                if self._synced or not name.startswith("sync"):
                    operation = getattr(self, name)(result, *arguments)
                    if operation is not None:
                        self._record(operation)
                return result

        return recorded

    def _record(self, operation: Operation) -> None:
        self.recording.operations.append(operation)
        self.recording.steps.append(self.recording.step)

    def system(self, real: Callable[[int], object]) -> Callable[[int], object]:
        """A sync of the operating system: without one, nothing counts as safe."""

        def sync(fd: int) -> object:
            self._synced = True
            return real(fd)

        return sync

    def open_new(self, fd: int, path: Path, *mode: int) -> Operation:
        inode = self._open[fd] = self._names[path] = self._next
        self._next += 1
        return lambda disk: disk.create(inode, path)

    def open_append(self, fd: int, path: Path) -> None:
        self._open[fd] = self._names[path]

    def write_all(self, result: None, fd: int, data: bytes) -> Operation:
        inode, copy = self._open[fd], bytes(data)
        return lambda disk: disk.write(inode, copy)

    def sync(self, result: None, fd: int) -> Operation:
        inode = self._open[fd]
        return lambda disk: disk.sync(inode)

    def rename(self, result: None, source: Path, target: Path) -> Operation:
        inode = self._names[target] = self._names.pop(source)
        return lambda disk: disk.change(Change(target, inode, gone=source))

    def link(self, result: None, source: Path, target: Path) -> Operation:
        inode = self._names[target] = self._names[source]
        return lambda disk: disk.change(Change(target, inode))

    def remove(self, result: None, path: Path) -> Operation | None:
        gone = self._names.pop(path, None) is not None
        return (lambda disk: disk.change(Change(path, None))) if gone else None

    def sync_folder(self, result: None, path: Path) -> Operation:
        return lambda disk: disk.sync_folder(path)

    def make_folder(self, real: Callable[..., None]) -> Callable[..., None]:
        """Made first, and its parent synced by the real one."""

        def made(path: Path, mode: int = 0o700) -> None:
            with self._lock:
                if not path.exists():
                    self._record(lambda disk: disk.change(Change(path, True)))
                real(path, mode)

        return made


RECORDED = ("open_new", "open_append", "write_all", "sync", "rename", "link", "remove", "sync_folder")


@contextmanager
def recording(root: Path) -> Iterator[Recorder]:
    """Everything durable done below ``root`` inside the ``with`` is recorded."""
    recorder = Recorder(root)
    system = {name: getattr(os, name) for name in ("fsync", "fdatasync") if hasattr(os, name)}
    real = {name: getattr(durable, name) for name in (*RECORDED, "make_folder")}
    for name in RECORDED:
        setattr(durable, name, recorder.call(name, real[name]))
    durable.make_folder = recorder.make_folder(real["make_folder"])
    for name, function in system.items():
        setattr(os, name, recorder.system(function))
    try:
        yield recorder
    finally:
        for name, function in system.items():
            setattr(os, name, function)
        for name, function in real.items():
            setattr(durable, name, function)
