"""Commands to be killed, the homes they run in, and what must hold after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anthill_sync import Store
from anthill_sync.errors import Damaged

from .points import Point
from .scenarios import CHUNK, LARGE, NEW, OLD, OTHER, PAD, SMALL, State, noise
from .test_recovery_crashes import break_journal, lose_index

IN_FLIGHT = 20  # pads that may be sent again after a kill: one per upload thread
BIG = noise("big", 40 * CHUNK + 500)  # keeps all upload threads busy
TREE = {f"tree/{number:02}": noise(f"tree {number}", 200 + 90 * number) for number in range(30)}
FILES = {"large": LARGE, "new": NEW, "big": BIG, **TREE}


@dataclass(frozen=True)
class Job:
    """One command: ``before`` is what the store holds first, ``after`` what it holds at the end. In ``argv``, "@x" is
    the file x beside the home. ``again``: exit codes of the same command when it may have been done already. ``apart``:
    every key changes on its own. ``prepare``: what else is done first. ``damage``: what is broken then; the command mends
    it, and after a kill it may be broken still."""

    name: str
    argv: tuple[str, ...]
    before: State
    after: State
    again: tuple[int, ...] = (0,)
    apart: bool = False
    checkpoints: bool = False
    prepare: Callable[[Path, Killer], object] = lambda home, killer: None
    damage: Callable[[Path], object] | None = None

    def assert_allowed(self, found: State) -> None:
        if self.apart:
            for key in {*found, *self.before, *self.after}:
                assert found.get(key) in (self.before.get(key), self.after.get(key)), f"{key} is neither old nor new"
        else:
            assert found in (self.before, self.after), f"a state that never was: {sorted(found)}"


def interrupted(argv: tuple[str, ...], at: int) -> Callable[[Path, Killer], object]:
    """Kill this command first, at its point number ``at``."""

    def prepare(home: Path, killer: Killer) -> None:
        assert killer.run(home, argv, at).killed, "what was to be interrupted went through"

    return prepare


WITH_OLD = {**OTHER, "k": OLD, "l": SMALL}
PUT = ("put", "k", "@large")
JOBS = [
    Job("put", PUT, OTHER, {**OTHER, "k": LARGE}),
    Job("put with all threads busy", ("put", "k", "@big"), OTHER, {**OTHER, "k": BIG}),
    Job("overwrite", ("put", "k", "@new"), WITH_OLD, {**WITH_OLD, "k": NEW}),
    Job("put -r", ("put", "tree", "@tree", "-r"), OTHER, {**OTHER, **TREE}, apart=True),
    Job("rm", ("rm", "k", "l"), WITH_OLD, OTHER, again=(0, 66)),
    Job("mv", ("mv", "k", "m"), WITH_OLD, {**OTHER, "m": OLD, "l": SMALL}, again=(0, 66)),
    Job("mv --force", ("mv", "k", "l", "--force"), WITH_OLD, {**OTHER, "l": OLD}, again=(0, 66)),
    Job("resume", ("resume",), OTHER, {**OTHER, "k": LARGE}, prepare=interrupted(PUT, 120)),
    Job("put again", PUT, OTHER, {**OTHER, "k": LARGE}, prepare=interrupted(PUT, 140)),
    Job("checkpoint", ("put", "l", "@new"), WITH_OLD, {**WITH_OLD, "l": NEW}, checkpoints=True),
    Job("recover", ("recover",), WITH_OLD, WITH_OLD, damage=lose_index),
    Job("repair", ("repair",), WITH_OLD, WITH_OLD, damage=break_journal),
]


@dataclass(frozen=True)
class Ended:
    """How a command ended. ``hit``: the point at which it was killed, if it was at one; else ``points``: all it came by."""

    status: int  # as of waitpid
    hit: Point | None
    points: list[Point]
    refused: str  # why strace could not look at it

    @property
    def killed(self) -> bool:
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL

    @property
    def code(self) -> int:
        return os.waitstatus_to_exitcode(self.status)

    @property
    def sent(self) -> int:
        """Images it sent."""
        return sum(point.is_a("network.write|after") for point in self.points)


class Killer:
    """The server of ``killer.py``, and the files that its commands read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, data in FILES.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
        self._errors = (folder / "stderr").open("wb")
        command = [sys.executable, str(Path(__file__).with_name("killer.py"))]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "ANTHILL_BACKOFF_BASE": "0"},
        )

    def run(
        self,
        home: Path,
        argv: tuple[str, ...],
        at: int = 0,
        only: str = "",
        *,
        checkpoints: bool = False,
        strace: Sequence[str] = (),
    ) -> Ended:
        """One command in a process of its own, killed at point ``at`` (of those that are ``only``), or by strace."""
        words = [str(self.folder / word[1:]) if word.startswith("@") else word for word in argv]
        job = {
            "argv": ["--home", str(home), *words],
            "at": at,
            "only": only,
            "checkpoints": checkpoints,
            "strace": list(strace),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        hit = point_of(answer["hit"]) if answer["hit"] else None
        return Ended(answer["status"], hit, [point_of(text) for text in answer["points"]], answer["refused"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._errors.close()


def point_of(text: str) -> Point:
    kind, _, phase = text.partition("|")
    return Point(kind, phase)


@dataclass(frozen=True)
class Home:
    """What a store says of itself, and what its network holds."""

    content: State
    committed: int  # images, of all pads
    pads: int  # numbers in use
    unknown: set[str]  # addresses on the network that none of those numbers has

    @classmethod
    def proved(cls, home: Path) -> Home:
        """All of it, after everything has been proved; else ``Damaged``."""
        with Store.open(home) as store:
            problems = store.check(read_data=True).problems
            if problems:
                raise Damaged(f"{len(problems)} problems, the first: {problems[0]}")
            index, name = store._session.index(), store._session.pads.name
            found = {path.name for path in (home / "pads").glob("*/*") if path.suffix != ".tmp"}
            known = {name(number).address for number in range(index.pads)}
            return cls({key: store[key] for key in store}, sum(index.counters), index.pads, found - known)


class Bench:
    """One job: its template, and its run that nothing disturbs."""

    def __init__(self, job: Job, killer: Killer, folder: Path) -> None:
        self.job, self._killer, self._home, self._template = job, killer, folder / "home", folder / "template"
        self._before = self._make_template()
        self.whole = killer.run(self.fresh(), job.argv, checkpoints=job.checkpoints)
        self._after = Home.proved(self._home)
        assert self.whole.code == 0
        assert self._after.content == job.after

    def _make_template(self) -> Home:
        with Store.create(self._template, pad_size=PAD) as store:
            for key, value in self.job.before.items():
                store.put(key, value)
        self.job.prepare(self._template, self._killer)
        before = Home.proved(self._template)
        if self.job.damage is not None:
            self.job.damage(self._template)
        return before

    def fresh(self) -> Path:
        """A home in which the job has not run yet."""
        shutil.rmtree(self._home, ignore_errors=True)
        shutil.copytree(self._template, self._home)
        return self._home

    def kill(self, at: int = 0, only: str = "", *, strace: Sequence[str] = ()) -> Ended:
        """Run the command in a fresh home, and kill it."""
        return self._killer.run(self.fresh(), self.job.argv, at, only, checkpoints=self.job.checkpoints, strace=strace)

    def assert_survived(self) -> None:
        """Old or new; the same command finishes, sends little again, and no pad is lost."""
        found = self._found()
        again = self._killer.run(self._home, self.job.argv)
        assert again.code in self.job.again, f"the same command again ended with {again.code}"
        finished = Home.proved(self._home)
        assert finished.content == self.job.after
        if found is not None:
            repeated = found.committed - self._before.committed + again.sent - self.whole.sent
            assert repeated <= IN_FLIGHT, f"{repeated} pads were sent again, more than were in flight"
        assert not finished.unknown, f"pads on the network that the index does not know: {finished.unknown}"
        assert finished.pads <= self._after.pads, "a reserved pad was lost"

    def _found(self) -> Home | None:
        """The home after the kill, in a state that is allowed; None: as damaged as before."""
        try:
            found = Home.proved(self._home)
        except Damaged:
            if self.job.damage is None:
                raise
            return None
        self.job.assert_allowed(found.content)
        return found


@contextmanager
def killing(folder: Path) -> Iterator[Killer]:
    """A killer with its files in ``folder``."""
    server = Killer(folder)
    try:
        yield server
    finally:
        server.close()
