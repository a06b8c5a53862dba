"""P2 and P3 under the real thing: ``anthill`` is killed with SIGKILL at a point of its run, and run again."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import Store

from .points import Point
from .scenarios import LARGE, NEW, OLD, OTHER, PAD, SMALL, State, noise

SHORT, LONG = 240, 2000  # kills
ROOT = Path(__file__).parents[2]
TREE = {f"tree/{number:02}": noise(f"tree {number}", 200 + 90 * number) for number in range(30)}
KINDS = (
    "write_all journal",
    "sync journal",
    "rename journal",
    "write_all json",
    "rename json",
    "write_all pad.tmp",
    "sync pad.tmp",
    "rename pad",
    "sync_folder folder",
    "write_at lock",
    "network.reserve",
    "network.write",
    "network.confirm",
)


@dataclass
class Job:
    """One command: ``before`` is what the store holds first, ``after`` what it holds at the end."""

    name: str
    argv: list[str]  # "@x" is the file x beside the home
    before: State
    after: State
    again: tuple[int, ...] = (0,)  # exit codes of the same command when it may have been done already
    apart: bool = False
    checkpoints: bool = False
    prepare: tuple[list[str], int] | None = None  # a command, and the point at which it is killed
    points: list[str] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)

    def assert_allowed(self, found: State) -> None:
        if self.apart:
            for key in {*found, *self.before, *self.after}:
                assert found.get(key) in (self.before.get(key), self.after.get(key)), f"{key} is neither old nor new"
        else:
            assert found in (self.before, self.after), f"a state that never was: {sorted(found)}"


def jobs() -> list[Job]:
    """The commands of the campaign."""
    with_old = {**OTHER, "k": OLD, "l": SMALL}
    moved = {**OTHER, "m": OLD, "l": SMALL}
    return [
        Job("put", ["put", "k", "@large"], OTHER, {**OTHER, "k": LARGE}),
        Job("overwrite", ["put", "k", "@new"], with_old, {**with_old, "k": NEW}),
        Job("put -r", ["put", "tree", "@tree", "-r"], OTHER, {**OTHER, **TREE}, apart=True),
        Job("rm", ["rm", "k", "l"], with_old, OTHER, again=(0, 66)),
        Job("mv", ["mv", "k", "m"], with_old, moved, again=(0, 66)),
        Job("mv --force", ["mv", "k", "l", "--force"], with_old, {**OTHER, "l": OLD}, again=(0, 66)),
        Job("resume", ["resume"], OTHER, {**OTHER, "k": LARGE}, prepare=(["put", "k", "@large"], 120)),
        Job("put again", ["put", "k", "@large"], OTHER, {**OTHER, "k": LARGE}, prepare=(["put", "k", "@large"], 140)),
        Job("checkpoint", ["put", "l", "@new"], with_old, {**with_old, "l": NEW}, checkpoints=True),
    ]


class Killer:
    """The server of ``killer.py``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._errors = (folder / "killer.err").open("wb")
        command = [sys.executable, str(Path(__file__).with_name("killer.py"))]
        environment = {**os.environ, "ANTHILL_BACKOFF_BASE": "0"}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._errors, text=True, env=environment)

    def run(self, home: Path, argv: list[str], at: int, checkpoints: bool = False, only: str = "") -> dict[str, Any]:
        """One command in a process of its own, killed at point ``at`` (of those that are ``only``)."""
        words = [str(self._folder / word[1:]) if word.startswith("@") else word for word in argv]
        job = {"argv": ["--home", str(home), *words], "at": at, "only": only, "checkpoints": checkpoints}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._errors.close()


@pytest.fixture
def killer(tmp_path: Path) -> Iterator[Killer]:
    (tmp_path / "large").write_bytes(LARGE)
    (tmp_path / "new").write_bytes(NEW)
    for key, value in TREE.items():
        path = tmp_path / key
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(value)
    server = Killer(tmp_path)
    yield server
    server.close()


def make_template(job: Job, killer: Killer, home: Path) -> Path:
    with Store.create(home, pad_size=PAD) as store:
        for key, value in job.before.items():
            store.put(key, value)
    if job.prepare is not None:
        argv, at = job.prepare
        answer = killer.run(home, argv, at)
        assert os.WIFSIGNALED(answer["status"]), "the put that was to be interrupted went through"
    return home


def copied(template: Path, home: Path) -> Path:
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(template, home)
    return home


def content(home: Path) -> State:
    """All values, after everything has been proved."""
    with Store.open(home) as store:
        assert not store.check(read_data=True).problems
        return {key: store[key] for key in store}


def kill_once(job: Job, killer: Killer, home: Path, at: int, only: str = "") -> None:
    """Kill at point ``at``; then old or new, and the same command again finishes."""
    answer = killer.run(home, job.argv, at, job.checkpoints, only)
    if answer["hit"]:
        assert os.WIFSIGNALED(answer["status"])
        assert os.WTERMSIG(answer["status"]) == signal.SIGKILL
        job.hits[answer["hit"]] += 1
    else:
        assert os.waitstatus_to_exitcode(answer["status"]) == 0, "not killed, and failed"
    job.assert_allowed(content(home))
    again = os.waitstatus_to_exitcode(killer.run(home, job.argv, 0)["status"])
    assert again in job.again, f"the same command again ended with {again}"
    assert content(home) == job.after


def test_kill_9_leaves_old_or_new_and_the_same_command_finishes(
    killer: Killer, tmp_path: Path, long_run: bool, summary_line: list[str]
) -> None:
    campaign = jobs()
    templates = [make_template(job, killer, tmp_path / f"template-{number}") for number, job in enumerate(campaign)]
    for job, template in zip(campaign, templates, strict=True):
        whole = killer.run(copied(template, tmp_path / "home"), job.argv, 0, job.checkpoints)
        assert os.waitstatus_to_exitcode(whole["status"]) == 0
        job.points = whole["points"]
        assert content(tmp_path / "home") == job.after
    for job, at, only in plan(campaign, LONG if long_run else SHORT):
        template = templates[campaign.index(job)]
        try:
            kill_once(job, killer, copied(template, tmp_path / "home"), at, only)
        except Exception as error:
            raise AssertionError(f"{job.name}, killed at point {at} {only} of {len(job.points)}") from error
    report(campaign, tmp_path, summary_line)


def plan(campaign: list[Job], wanted: int) -> Iterator[tuple[Job, int, str]]:
    """(command, number of the point, of which kind): every kind once, then all commands evenly."""
    kinds = [f"{kind}|{phase}" for kind in KINDS for phase in ("before", "after")]
    for kind in kinds:
        job = next(job for job in campaign if any(point_is(point, kind) for point in job.points))
        yield job, 1, kind
    each = (wanted - len(kinds)) // len(campaign) + 1
    for job in campaign:
        yield from ((job, 1 + number * len(job.points) // each, "") for number in range(each))


def point_is(point: str, wanted: str) -> bool:
    kind, _, phase = point.partition("|")
    return Point(kind, phase).is_a(wanted)


def report(campaign: list[Job], tmp_path: Path, summary_line: list[str]) -> None:
    """How often each kind of point was hit; every kind must have been."""
    hits: Counter[str] = Counter()
    for job in campaign:
        hits.update(job.hits)
    lines = [f"{count:5}  {kind}" for kind, count in sorted(hits.items())]
    (tmp_path / "kill9-report.txt").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    missed = [kind for kind in KINDS if not any(point_is(hit, kind) for hit in hits)]
    assert not missed, f"no kill at {missed}"
    total = sum(hits.values())
    assert total >= SHORT * 9 // 10
    summary_line.append(f"kill -9: {total} kills of {len(campaign)} commands at {len(hits)} kinds of points; nothing lost")


def test_kill_9_at_a_random_moment_of_a_real_process(tmp_path: Path, long_run: bool, killer: Killer) -> None:
    """The program as it is started every day, killed when the clock says so, not where we look."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    job = Job("put -r", ["put", "tree", "@tree", "-r"], OTHER, {**OTHER, **TREE}, apart=True)
    template = make_template(job, killer, tmp_path / "template")
    for _ in range(40 if long_run else 6):
        home = copied(template, tmp_path / "home")
        command = [sys.executable, "-m", "anthill_sync", "--home", str(home), "put", "tree", str(tmp_path / "tree"), "-r"]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.1, 0.6))
        process.kill()
        process.wait(20)
        job.assert_allowed(content(home))
        assert os.waitstatus_to_exitcode(killer.run(home, job.argv, 0)["status"]) == 0
        assert content(home) == job.after
