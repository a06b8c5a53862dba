"""P2 and P3 under the real thing: ``anthill`` is killed with SIGKILL at a point of its run, and run again."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Begin
from .kills import JOBS, Bench, Job, Killer, killing
from .points import selection

SHORT, LONG = 30, 250  # kills of each command, where it has so many points
ROOT = Path(__file__).parents[2]
SYSTEM_CALLS = ("openat", "write", "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink")


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    with killing(tmp_path_factory.mktemp("killer")) as server:
        yield server


def job_named(name: str) -> Job:
    return next(job for job in JOBS if job.name == name)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_kill_9_leaves_old_or_new_and_the_same_command_finishes(
    job: Job, killer: Killer, tmp_path: Path, campaign: Begin
) -> None:
    """At every kind of point that the command comes by: before and after each kind of file operation and network call, and
    before, within and after each kind of journal record."""
    bench = Bench(job, killer, tmp_path)
    most = sum(len(point.names) for point in bench.whole.points)
    with campaign("kill -9", job.name, short=SHORT, long=min(LONG, most)) as run:
        for name, number in selection(bench.whole.points, run.goal, run.random("points")):
            with run.case(name, f"number {number}"):
                kill_at(bench, name, number)
                bench.assert_survived()


def kill_at(bench: Bench, name: str, number: int) -> None:
    """Kill at the ``number``-th point of this name; threads may come by fewer of them than the other time, not by none."""
    for each in (number, 1):
        ended = bench.kill(each, name)
        if ended.hit is not None:
            assert ended.killed
            assert ended.hit.is_a(name)
            return
        assert ended.code == 0, f"not killed, and failed: {ended.code}"
    raise AssertionError("the point was not reached")


def test_kill_9_by_strace_leaves_old_or_new_and_the_same_command_finishes(
    killer: Killer, tmp_path: Path, campaign: Begin
) -> None:
    """Without any hook in the program: strace kills it at the N-th call of the operating system."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    names = ("put", "overwrite", "rm", "mv", "checkpoint")
    benches = [Bench(job_named(name), killer, make(tmp_path / name)) for name in names]
    calls = {bench.job.name: system_calls(bench, tmp_path / "log") for bench in benches}
    assert not set(SYSTEM_CALLS[:4]) - {call for counts in calls.values() for call in counts}
    with campaign("kill -9", "by strace, without hooks", short=25, long=250) as run:
        for turn in range(run.goal):
            bench, chance = benches[turn % len(benches)], run.random("strace", turn)
            counts = calls[bench.job.name]
            call = sorted(counts)[turn // len(benches) % len(counts)]
            number = chance.randint(1, counts[call])
            with run.case(f"{call} in strace", f"{number} of {bench.job.name}"):
                kill_by_strace(bench, call, number)
                bench.assert_survived()


def kill_by_strace(bench: Bench, call: str, number: int) -> None:
    """Kill when any thread comes to its ``number``-th such call; this time none may come to so many."""
    for each in (number, 1):
        inject = f"inject={call}:signal=KILL:when={each}"
        if bench.kill(strace=["-o", "/dev/null", "-e", f"trace={call}", "-e", inject]).killed:
            return
    raise AssertionError("not killed")


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def system_calls(bench: Bench, log: Path) -> dict[str, int]:
    """How often one thread makes each of the calls; strace counts for each thread."""
    ended = bench.kill(strace=["-o", str(log), "-e", "trace=" + ",".join(f"?{call}" for call in SYSTEM_CALLS)])
    if ended.refused:
        pytest.skip(f"strace may not look at a process here: {ended.refused}")
    assert ended.code == 0
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for thread, call in re.findall(r"^(\d+) +(\w+)\(", log.read_text("utf-8", "replace"), re.MULTILINE):
        counts[call][thread] += 1
    return {call: max(by_thread.values()) for call, by_thread in counts.items()}


def test_kill_9_at_a_random_moment_of_a_real_process(killer: Killer, tmp_path: Path, campaign: Begin) -> None:
    """The program as it is started every day, killed when the clock says so, not where we look."""
    job = job_named("put -r")
    bench = Bench(job, killer, tmp_path)
    with campaign("kill -9", "at random moments", short=6, long=60) as run:
        for turn in range(run.goal):
            with run.case("at a random moment"):
                home = bench.fresh()
                words = ["put", "tree", str(killer.folder / "tree"), "-r"]
                command = [sys.executable, "-m", "anthill_sync", "--home", str(home), *words]
                process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
                time.sleep(run.random(turn).uniform(0.1, 0.6))
                process.kill()
                process.wait(20)
                bench.assert_survived()
