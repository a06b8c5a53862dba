"""Running what is measured in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ANTHILL = str(Path(sys.executable).parent / "anthill")
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss


@dataclass(frozen=True)
class Ended:
    """How a process ended that did its work."""

    seconds: float  # from start to end
    peak_mib: float  # most memory it held at once


def run(
    *command: str | Path,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Ended:
    """Run a command to its end, in ``folder``; ``SystemExit`` when it fails. A child's peak begins with what this process
    holds, so this process must stay small."""
    arguments = [str(part) for part in command]
    quiet = subprocess.DEVNULL
    began = time.perf_counter()
    process = subprocess.Popen(arguments, stdin=stdin or quiet, stdout=stdout or quiet, env=environment, cwd=folder)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"bench: exit code {process.returncode}: {' '.join(arguments)}")
    return Ended(seconds, used.ru_maxrss * MAXRSS_BYTES / 1024**2)


def work(name: str, *arguments: str | int | Path) -> dict[str, Any]:
    """What ``benchlib.work`` answers to this piece of work, done in a new process."""
    command = [sys.executable, "-m", "benchlib.work", name, *map(str, arguments)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"bench: exit code {done.returncode}: {' '.join(command)}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
