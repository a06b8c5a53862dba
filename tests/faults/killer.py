"""Runs ``anthill`` commands, each in a process of its own, and kills that process at one point with SIGKILL.

Everything is imported once; then every job forks a child that runs the command as the program would, before any store
is open here. Jobs come as JSON lines on stdin: ``{"argv": [...], "at": N, "only": "kind|phase", "checkpoints": false,
"strace": []}``: kill at the N-th such point; 0 kills nowhere. With options for ``strace`` the command has no points: it
runs as it is, and strace looks at it. Answers: ``{"status": as of waitpid, "hit": "kind|phase" or "", "points": those
reached by a command that was not killed, "refused": why strace cannot be had}``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parents[2]))

from anthill_sync import cli, store
from anthill_sync.networks import directory
from tests.faults.points import Points, installed, kill
from tests.faults.scenarios import always_checkpoint

NEEDED = (store.Store, directory.DirectoryNetwork)  # imported by the first command otherwise, in every child anew
Job = dict[str, Any]


def child(job: Job, tell: int) -> NoReturn:
    """The command, with its points, or stopped until strace has come."""
    if job["checkpoints"]:
        always_checkpoint(setattr)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    if job["strace"]:
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(cli.main(job["argv"]))
    with installed(Points(job["at"], kill(tell), job["only"])) as points:
        code = cli.main(job["argv"])
    os.write(tell, json.dumps([str(point) for point in points.seen]).encode())
    os._exit(code)


def attach(pid: int, options: list[str]) -> tuple[subprocess.Popen[str], str]:
    """strace on a stopped process, which then goes on; and what it says when it may not look."""
    os.waitpid(pid, os.WUNTRACED)
    tracer = subprocess.Popen(["strace", "-f", "-p", str(pid), *options], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    first = tracer.stderr.readline().strip()
    os.kill(pid, signal.SIGCONT)
    return tracer, "" if first.endswith("attached") else first


def parent(job: Job) -> dict[str, object]:
    """Fork, wait, and tell what happened."""
    listen, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(job, tell)
        finally:
            os._exit(99)
    os.close(tell)
    tracer, refused = attach(pid, job["strace"]) if job["strace"] else (None, "")
    told = b"".join(iter(lambda: os.read(listen, 65536), b"")).decode()
    os.close(listen)
    status = os.waitpid(pid, 0)[1]
    if tracer is not None:
        tracer.communicate()
    whole = told.startswith("[")
    return {"status": status, "hit": "" if whole else told, "points": json.loads(told) if whole else [], "refused": refused}


def main() -> None:
    for line in sys.stdin:
        sys.stdout.write(json.dumps(parent(json.loads(line))) + "\n")
        sys.stdout.flush()


main()
