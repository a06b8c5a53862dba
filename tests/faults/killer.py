"""Runs ``anthill`` commands, each in a process of its own, and kills that process at one point with SIGKILL.

Everything is imported once; then every job forks a child that runs the command as the program would, before any store
is open here. Jobs come as JSON lines on stdin: ``{"argv": [...], "at": N, "only": "kind|phase", "checkpoints": false}``:
kill at the N-th such point; 0 kills nowhere. Answers: ``{"status": as of waitpid, "hit": "kind|phase" or "", "points":
those reached by a command that was not killed}``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from anthill_sync import cli, journal, store
from anthill_sync.networks import directory
from tests.faults.points import Points, installed, kill

NEEDED = (store.Store, directory.DirectoryNetwork)  # imported by the first command otherwise, in every child anew


def child(job: dict[str, object], tell: int) -> None:
    """The command, with its points; does not return."""
    arguments, at, only = job["argv"], job["at"], job["only"]
    assert isinstance(arguments, list)
    assert isinstance(at, int)
    assert isinstance(only, str)
    if job["checkpoints"]:
        journal.CHECKPOINT_BYTES = 1
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    with installed(Points(at, kill(tell), only)) as points:
        code = cli.main(arguments)
    os.write(tell, json.dumps([str(point) for point in points.seen]).encode())
    os._exit(code)


def parent(job: dict[str, object]) -> dict[str, object]:
    """Fork, wait, and tell what happened."""
    listen, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(job, tell)
        finally:
            os._exit(99)
    os.close(tell)
    told = b"".join(iter(lambda: os.read(listen, 4096), b""))
    os.close(listen)
    text = told.decode()
    whole = text.startswith("[")
    return {"status": os.waitpid(pid, 0)[1], "hit": "" if whole else text, "points": json.loads(text) if whole else []}


def main() -> None:
    for line in sys.stdin:
        sys.stdout.write(json.dumps(parent(json.loads(line))) + "\n")
        sys.stdout.flush()


main()
