"""The same files by the program and by its rivals, in turn: a large one, and a tree of many small ones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from .figures import Figure, alternately
from .processes import run
from .rivals import OURS, Tool, installed

# name of the rival -> most that our time may be of its time
PUT_FILE = {"borg": 1 / 2.5, "rclone crypt": 1 / 3.5, "restic": 1 / 3.5}
GET_FILE = dict.fromkeys(PUT_FILE, 1 / 2)
PUT_TREE = {"borg": 1 / 2, "rclone crypt": 1 / 2, "restic": 1 / 4}
TREE_SECONDS = 1.5
FILES = 10_000


class Seconds(NamedTuple):
    """What a command took. Not all of them sync what they write; the same work is done when it is on the disk."""

    durable: float  # until nothing waits to be written
    ended: float  # until the command ended


Many = tuple[Seconds, ...]


@dataclass(frozen=True)
class Bench:
    """One tool, and where it puts things."""

    tool: Tool
    folder: Path
    source: Path

    def store(self) -> Seconds:
        """Seconds of a store into a new place."""
        place = self.folder / "place"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.tool.prepare(place)
        return timed(lambda: self.tool.store(place, self.source))

    def fetch(self) -> Seconds:
        """Seconds of bringing it back; what came back is compared, then removed."""
        target = self.folder / "target"
        target.mkdir()
        copies: list[Path] = []
        seconds = timed(lambda: copies.append(self.tool.fetch(self.folder / "place", self.source, target)))
        run("diff", "-r", self.source, copies[0])
        shutil.rmtree(self.folder)
        return seconds


def timed(action: Callable[[], object]) -> Seconds:
    """Begun when the disk has no older work."""
    os.sync()
    began = perf_counter()
    action()
    ended = perf_counter() - began
    os.sync()
    return Seconds(perf_counter() - began, ended)


def _measured(folder: Path, source: Path, rounds: int) -> dict[str, tuple[Many, Many]]:
    """Seconds of storing and of fetching, by tool."""
    benches = [Bench(tool, folder / tool.name, source) for tool in (OURS, *installed())]
    actions = [action for bench in benches for action in (bench.store, bench.fetch)]
    samples = alternately(rounds, *actions)
    return {bench.tool.name: (samples[2 * n], samples[2 * n + 1]) for n, bench in enumerate(benches)}


def _rows(what: str, samples: dict[str, Many], goals: dict[str, float], most: float | None = None) -> list[Figure]:
    """Ours alone, then each rival's and ours beside it, durable and as soon as the commands end."""
    durable, ended = ({name: tuple(each[way] for each in many) for name, many in samples.items()} for way in (0, 1))
    rows = [
        Figure(f"{what}, anthill", "s", durable[OURS.name]),
        Figure(f"{what}, anthill, until it ends", "s", ended[OURS.name], most),
    ]
    for name in [name for name in samples if name != OURS.name]:
        rows += [
            Figure(f"{what}, {name}", "s", durable[name]),
            Figure(f"{what}, anthill beside {name}", "s", durable[OURS.name], goals[name], durable[name]),
            Figure(f"{what}, {name}, until it ends", "s", ended[name]),
            Figure(f"{what}, anthill beside {name}, until they end", "s", ended[OURS.name], None, ended[name]),
        ]
    return rows


def of_file(folder: Path, rounds: int, mib: int) -> list[Figure]:
    """One large file, whole commands."""
    source = folder / "source"
    run("dd", "if=/dev/urandom", f"of={source}", "bs=1M", f"count={mib}", "status=none")
    found = _measured(folder, source, rounds)
    puts, gets = ({name: both[way] for name, both in found.items()} for way in (0, 1))
    return _rows(f"{mib} MiB in", puts, PUT_FILE) + _rows(f"{mib} MiB back", gets, GET_FILE)


def of_tree(folder: Path, rounds: int) -> list[Figure]:
    """Many files of 1 KiB, whole commands."""
    source = folder / "tree"
    for number in range(FILES):
        path = source / f"{number % 100:02}" / f"{number:05}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(1024))
    found = _measured(folder, source, rounds)
    return _rows(f"{FILES:,} files of 1 KiB in", {name: both[0] for name, both in found.items()}, PUT_TREE, TREE_SECONDS)
