"""Points: every durable file operation and every network call, each before and after its effect (and half-way
through a write). A test crashes the program, or kills the process, at the point of its choice."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NoReturn, TypeVar

from anthill_sync import creating, durable
from anthill_sync.networks.base import Image, Network, Pad
from tests.support.networks import Wrapper

T = TypeVar("T")
OPENERS = ("open_new", "open_append")
BY_PATH = ("sync_folder", "rename", "link", "remove", "make_folder")
BY_DESCRIPTOR = ("write_all", "write_at", "sync")


class Crash(BaseException):
    """The program ends here; after it, no effect happens any more."""


@dataclass(frozen=True)
class Point:
    """One moment: ``kind`` is the operation and what it is about, ``phase`` before, torn or after."""

    kind: str
    phase: str

    def __str__(self) -> str:
        return f"{self.kind}|{self.phase}"

    @property
    def names(self) -> list[str]:
        """``operation|phase``, and ``record name|phase`` for each kind of record in a line of the journal."""
        operation, _, lines = self.kind.partition(":")
        return [f"{operation}|{self.phase}", *(f"record {name}|{self.phase}" for name in lines.split("+") if name)]

    def is_a(self, wanted: str) -> bool:
        """True for one of its names; the empty one means all."""
        return wanted in ("", *self.names)


def selection(points: Iterable[Point], least: int, chance: Random) -> list[tuple[str, int]]:
    """(name, number) of points to act at: each name that occurs once, then in turn until there are ``least`` of them, or
    all. The number is that of the point among those of its name, from 1."""
    counts = Counter(name for point in points for name in point.names)
    waiting = {name: chance.sample(range(1, count + 1), count) for name, count in sorted(counts.items())}
    chosen: list[tuple[str, int]] = []
    while waiting and len(chosen) < max(least, len(counts)):
        chosen += [(name, numbers.pop()) for name, numbers in waiting.items()]
        waiting = {name: numbers for name, numbers in waiting.items() if numbers}
    return chosen[: max(least, len(counts))]


def every(points: Iterable[Point]) -> list[tuple[str, int]]:
    """All points as (name, number) of their operations."""
    counts: Counter[str] = Counter()
    chosen = []
    for name in (point.names[0] for point in points):
        counts[name] += 1
        chosen.append((name, counts[name]))
    return chosen


Act = Callable[[Point], NoReturn]


class Points:
    """Numbers the points as they are reached, from 1 (of those that are ``only``), and acts at number ``at``.
    Thread-safe."""

    def __init__(self, at: int = 0, act: Act | None = None, only: str = "") -> None:
        self.seen: list[Point] = []
        self.hit: Point | None = None
        self.dead = False
        self._at, self._act, self._only = at, act, only
        self._reached = 0
        self._lock = threading.Lock()
        self._paths: dict[int, Path] = {}  # of descriptors that durable opened

    def around(self, kind: str, effect: Callable[[], T], torn: Callable[[], object] | None = None) -> T:
        """``effect`` between its two points; ``torn`` does half of it."""
        self._reach(Point(kind, "before"))
        if torn is not None:
            self._reach(Point(kind, "torn"), torn)
        result = effect()
        self._reach(Point(kind, "after"))
        return result

    def _reach(self, point: Point, prepare: Callable[[], object] | None = None) -> None:
        with self._lock:
            if self.dead:
                raise Crash(str(point))
            self.seen.append(point)
            self._reached += point.is_a(self._only)
            if self._reached != self._at or not point.is_a(self._only):
                return
            self.hit = point
            if prepare is not None:
                prepare()
            self.dead = True
            if self._act is not None:
                self._act(point)
            raise Crash(str(point))

    # -- the two seams

    def opener(self, name: str, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Path, *more: Any) -> int:
            fd = self.around(f"{name} {what(path)}", partial(real, path, *more))
            self._paths[fd] = path
            return fd

        return call

    def by_path(self, name: str, real: Callable[..., T]) -> Callable[..., T]:
        def call(*arguments: Any) -> T:
            return self.around(f"{name} {what(arguments[-1] if name == 'rename' else arguments[0])}", partial(real, *arguments))

        return call

    def by_descriptor(self, name: str, real: Callable[..., T]) -> Callable[..., T]:
        def call(fd: int, *more: Any) -> T:
            path = self._paths.get(fd)
            kind = f"{name} {'lock' if path is None else what(path)}"
            torn = None
            if name == "write_all":
                kind += records(bytes(more[0])) if path is not None and path.name == "index.journal" else ""
                torn = partial(real, fd, memoryview(more[0])[: len(more[0]) // 2])
            return self.around(kind, partial(real, fd, *more), torn)

        return call


def what(path: Path) -> str:
    """Which of a store's files this is."""
    name = path.name
    for known in ("journal", "json", "key"):
        if known in name:
            return name.removeprefix("index.")
    if len(name) == 64:
        return "pad"
    return "pad.tmp" if name.endswith(".tmp") else "folder"


def records(line: bytes) -> str:
    """The names of the records in a journal line."""
    if not line.startswith(b'{"s"'):
        return ""
    return ":" + "+".join(dict.fromkeys(record[0] for record in json.loads(line)["r"]))


class PointNetwork(Wrapper):
    """Every network call is two points."""

    def __init__(self, inner: Network, points: Points) -> None:
        super().__init__(inner)
        self._points = points

    def _around(self, operation: str, pad: Pad, action: Callable[[], T], image: Image | None = None) -> T:
        return self._points.around(f"network.{operation}", action)


@contextmanager
def installed(points: Points) -> Iterator[Points]:
    """All stores opened inside the ``with`` go through ``points``."""
    real = {name: getattr(durable, name) for name in (*OPENERS, *BY_PATH, *BY_DESCRIPTOR)}
    open_network = vars(creating)["open_network"]
    wrap: dict[str, Callable[..., Any]] = {
        **dict.fromkeys(OPENERS, points.opener),
        **dict.fromkeys(BY_PATH, points.by_path),
        **dict.fromkeys(BY_DESCRIPTOR, points.by_descriptor),
    }
    for name, function in real.items():
        setattr(durable, name, wrap[name](name, function))
    vars(creating)["open_network"] = lambda *args, **more: PointNetwork(open_network(*args, **more), points)
    try:
        yield points
    finally:
        vars(creating)["open_network"] = open_network
        for name, function in real.items():
            setattr(durable, name, function)


def kill(tell: int) -> Act:
    """An act that writes the point to the descriptor ``tell`` and kills this process."""

    def act(point: Point) -> NoReturn:
        os.write(tell, str(point).encode())
        os.kill(os.getpid(), 9)
        raise SystemExit(1)

    return act
