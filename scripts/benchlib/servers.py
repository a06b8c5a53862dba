"""The pad server of this checkout in a process of its own, and what is measured on it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .figures import Figure, alternately
from .processes import ANTHILL, run, work

CONNECTIONS = 64  # a store's 60 threads, and a few
PAD_MIB = 4
MOST_MIB = 100 + 2 * PAD_MIB * CONNECTIONS
SMALL = 2000  # images of 1 KiB sent at once


class Server:
    """A running server."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.pid = process.pid
        self.url = process.stdout.readline().strip()

    def memory_mib(self) -> float:
        """What it holds now; 0 where the system does not tell by file."""
        status = Path(f"/proc/{self.pid}/status")
        return int(status.read_text().partition("VmRSS:")[2].split()[0]) / 1024 if status.exists() else 0.0


@contextmanager
def serving(data: Path) -> Iterator[Server]:
    """A server of its own for ``data``."""
    command = [str(ANTHILL), "serve", "--listen", "127.0.0.1:0", "--data", str(data), "--max-connections", str(CONNECTIONS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process)
        finally:
            process.terminate()


def measure(folder: Path, rounds: int, mib: int) -> list[Figure]:
    """A file through server and client on the loopback, next to what bare requests reach with the same images; small
    images; the server's memory."""
    source = folder / "source"
    run("dd", "if=/dev/urandom", f"of={source}", "bs=1M", f"count={mib}", "status=none")
    with serving(folder / "data") as server:
        numbers = iter(range(sys.maxsize))
        images = mib // PAD_MIB

        def bare() -> float:
            return float(work("bare", server.url, images, PAD_MIB * 1024**2)["seconds"])

        def put() -> float:
            return float(work("put", folder / f"home-{next(numbers)}", source, server.url)["seconds"])

        bare()
        plain, puts = alternately(rounds, bare, put)
        peak = server.memory_mib()
        small = alternately(rounds, lambda: float(work("bare", server.url, SMALL, 1024)["seconds"]))[0]
        before = server.memory_mib()
        work("rewrite", server.url, 10_000, 1024)
        grown = max(0.0, server.memory_mib() - before)
    os.sync()
    return [
        Figure(f"PUT of {mib} MiB to a pad server, 20 bare threads of requests", "s", plain),
        Figure(f"put of {mib} MiB to a pad server", "s", puts, 1 / 0.6, plain),
        Figure(f"PUT of {SMALL:,} images of 1 KiB to a pad server, 20 bare threads", "s", small),
        Figure("memory of the pad server after that", "MiB", (peak,), MOST_MIB),
        Figure("its growth over 10,000 requests more", "MiB", (grown,), 5),
    ]
