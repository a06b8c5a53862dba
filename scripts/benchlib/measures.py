"""The measurements, each a function from ``Plan`` to figures; goals stand beside what they bound."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from . import against, small
from .figures import Figure, Samples, alternately
from .objects import measure as measure_objects
from .processes import ANTHILL, run, work
from .servers import measure as measure_server

MIB = 1024**2


@dataclass(frozen=True)
class Plan:
    """How much to measure, and where."""

    folder: Path  # on the disk to measure
    rounds: int
    file_mib: int  # (a) size of the file
    large_mib: int  # (b) size of the large value
    blocks: int  # (c) blocks of the store whose index is measured
    keys: int  # (e) keys to list
    update_mib: int  # size of the file of which one byte changes

    @classmethod
    def full(cls, folder: Path) -> Plan:
        return cls(folder, rounds=5, file_mib=512, large_mib=4096, blocks=1_000_000, keys=100_000, update_mib=1024)

    @classmethod
    def quick(cls, folder: Path) -> Plan:
        return cls(folder, rounds=3, file_mib=256, large_mib=1024, blocks=10_000, keys=10_000, update_mib=256)

    @contextmanager
    def scratch(self, where: Path | None = None) -> Iterator[Path]:
        """A folder of its own, gone afterwards."""
        with TemporaryDirectory(prefix="anthill-bench-", dir=where or self.folder) as name:
            yield Path(name)


def sparse(path: Path, size: int) -> Path:
    """A new file of zeros that takes no room: what is sealed of it is as random as of any other."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def throughput(plan: Plan) -> list[Figure]:
    """A file into a local directory and back, durably, next to what copies it durably without doing more. A copy
    comes before each, and is removed: what follows finds the memory that it gave back."""
    with plan.scratch() as folder:
        source, home, back = folder / "source", folder / "home", folder / "back"
        run("dd", "if=/dev/urandom", f"of={source}", "bs=1M", f"count={plan.file_mib}", "status=none")

        def copy() -> float:
            os.sync()
            seconds = run("dd", f"if={source}", f"of={back}", "bs=4M", "conv=fsync", "status=none").seconds
            back.unlink()
            return seconds

        def put() -> float:
            return float(work("put", home, source)["seconds"])

        def get() -> float:
            seconds = float(work("get", home, back)["seconds"])
            run("cmp", source, back)
            back.unlink()
            shutil.rmtree(home)
            return seconds

        copy()  # memory that a virtual machine gets for the first time is slow, once
        first, puts, second, gets = alternately(plan.rounds, copy, put, copy, get)
    size, copies = f"{plan.file_mib} MiB", first + second
    return [
        Figure(f"dd conv=fsync of {size}", "s", copies),
        Figure(f"put of {size} into a local directory", "s", puts, 2.0, copies),
        Figure(f"get of {size} into a file", "s", gets, 2.0, copies),
    ]


def memory(plan: Plan) -> list[Figure]:
    """Peak memory of commands that move a value far larger than it."""
    with plan.scratch() as folder:
        source, home = sparse(folder / "source", plan.large_mib * MIB), folder / "home"
        run(ANTHILL, "--home", home, "init")
        peaks: dict[str, list[float]] = {}

        def keep(name: str, *arguments: str | Path, stdin: Path | None = None) -> None:
            with (stdin or Path(os.devnull)).open("rb") as opened:
                peaks.setdefault(name, []).append(run(ANTHILL, "--home", home, *arguments, stdin=opened).peak_mib)

        for _ in range(max(1, plan.rounds - 2)):
            keep("put", "put", "file", source)
            keep("get into a file", "get", "file", folder / "back")
            (folder / "back").unlink()
            keep("get onto standard output", "get", "file")
            run(ANTHILL, "--home", home, "rm", "file")
            keep("put from standard input", "put", "stream", "-", stdin=source)
            run(ANTHILL, "--home", home, "rm", "stream")
    size = f"{plan.large_mib / 1024:g} GiB"
    return [Figure(f"peak memory, {name} of {size}", "MiB", tuple(samples), 256) for name, samples in peaks.items()]


def index(plan: Plan) -> list[Figure]:
    """What the index writes, and how long it takes to read it back."""
    shared_memory = Path("/dev/shm")
    with plan.scratch(shared_memory if shared_memory.is_dir() else None) as folder:
        source = sparse(folder / "source", plan.blocks * 15 * 1024)  # a full chunk for each block
        written = work("journal", folder / "home", source)["bytes"]
        opened = [work("open", folder / "home") for _ in range(plan.rounds)]
    blocks = f"{plan.blocks:,} blocks"
    held = tuple(each["bytes"] / plan.blocks for each in opened)
    return [
        Figure(f"bytes written to the index per block, value of {blocks}", "bytes", (written / plan.blocks,), 400),
        Figure(f"opening a store with a value of {blocks}", "s", tuple(each["seconds"] for each in opened), 2.0),
        Figure("memory that this takes per block, at its peak", "bytes", held, 700),
    ]


def latency(plan: Plan) -> list[Figure]:
    """A put of 200 new pads where reserving takes 50 ms and writing 100 ms, 20 of each at once. The best there is:
    one reservation, then ten rounds of writes."""
    best: Samples = (0.05 + 10 * 0.1,)

    def put(pad_size: int) -> Callable[[], float]:
        def action() -> float:
            with plan.scratch() as folder:
                return float(work("slow", folder / "home", 200, pad_size, "0.05", "0.1")["seconds"])

        return action

    small, large = alternately(plan.rounds, put(16 * 1024), put(4 * MIB))
    return [
        Figure("put of 200 new pads of 16 KiB, slow network; ratio to the least possible", "s", small, 1.15, best),
        Figure("put of 200 new pads of 4 MiB, slow network; ratio to the least possible", "s", large, 1.15, best),
    ]


def starting(plan: Plan) -> list[Figure]:
    """How long commands take that have little to do."""
    with plan.scratch() as folder:
        work("keys", folder / "home", plan.keys)
        run(ANTHILL, "--home", folder / "empty", "init")
        bare, version, empty, listing, importing = alternately(
            plan.rounds * 2,
            lambda: run(sys.executable, "-c", "pass").seconds,
            lambda: run(ANTHILL, "--version").seconds,
            lambda: run(ANTHILL, "--home", folder / "empty", "ls").seconds,
            lambda: run(ANTHILL, "--home", folder / "home", "ls").seconds,
            lambda: float(work("imports")["seconds"]),
        )
    loaded = (float(work("imports")["modules"]),)
    return [
        Figure("Python alone: python -c pass", "s", bare),
        Figure("anthill --version", "s", version, 0.10),
        Figure("anthill ls of an empty store", "s", empty, 0.15),
        Figure(f"anthill ls of {plan.keys:,} keys", "s", listing, 1.0),
        Figure("import anthill_sync", "s", importing, 0.05),
        Figure("modules of requests, tqdm, typer, ... that it loads", "modules", loaded, 0),
    ]


def server(plan: Plan) -> list[Figure]:
    """A pad server and the network against it, on the loopback."""
    with plan.scratch() as folder:
        return measure_server(folder, plan.rounds, plan.file_mib)


def objects(plan: Plan) -> list[Figure]:
    """A distributed object store and the network against it, on the loopback."""
    with plan.scratch() as folder:
        return measure_objects(folder, plan.rounds, plan.file_mib)


def rivals(plan: Plan) -> list[Figure]:
    """One large file by this program and by what a user would pick instead."""
    with plan.scratch() as folder:
        return against.of_file(folder, plan.rounds, plan.file_mib)


def tree(plan: Plan) -> list[Figure]:
    """Many small files by the same programs."""
    with plan.scratch() as folder:
        return against.of_tree(folder, plan.rounds)


def values(plan: Plan) -> list[Figure]:
    """Small values in the embedded directory."""
    return small.values(plan.scratch, plan.rounds)


def callers(plan: Plan) -> list[Figure]:
    """Small values by many threads, over a slow network."""
    return small.callers(plan.scratch, plan.rounds)


def far(plan: Plan) -> list[Figure]:
    """Many new pads over a slow network."""
    return small.far(plan.scratch, plan.rounds)


def update(plan: Plan) -> list[Figure]:
    """A large file with one byte changed."""
    with plan.scratch() as folder:
        return small.update(folder, plan.rounds, plan.update_mib)


def processor(plan: Plan) -> list[Figure]:
    """Processor time of a put to a pad server."""
    with plan.scratch() as folder:
        return small.processor(folder, plan.rounds, plan.file_mib)


MEASURES: dict[str, Callable[[Plan], list[Figure]]] = {
    "throughput": throughput,
    "memory": memory,
    "index": index,
    "latency": latency,
    "starting": starting,
    "server": server,
    "objects": objects,
    "rivals": rivals,
    "tree": tree,
    "values": values,
    "callers": callers,
    "far": far,
    "update": update,
    "processor": processor,
}
