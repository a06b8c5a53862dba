"""The Swift cluster of ``scripts/swift-cluster``, for tests: a real distributed store that loses nodes."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path
from typing import Any

from obstore.store import ObjectStore, S3Store

from anthill_sync.networks.object_urls import parse

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "swift-cluster"
NODES = (1, 2, 3, 4)
SWIFT = ("create", "metadata", "ranges", "delete")  # what is found there: no conditional replacement
PATIENCE = 280.0  # seconds for a first start, which installs Swift

_NUMBERS = itertools.count(1)


class Unavailable(Exception):
    """It cannot run here; says why."""


class SwiftCluster:
    """A running cluster in ``folder``. ``environment``: the credentials; ``down``: nodes that were killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        url, *exports = self._run("start", "--owner", str(os.getpid())).splitlines()
        self._url = url
        self.environment = dict(line.removeprefix("export ").split("=", 1) for line in exports)
        self.down: set[int] = set()

    def url(self) -> str:
        """A network URL with a prefix of its own each time."""
        return self._url.replace("?", f"/{os.getpid()}/{next(_NUMBERS)}/pads?", 1)

    def store(self, url: str) -> ObjectStore:
        """The objects below one of these URLs, behind the network's back."""
        found = parse(*url.split(":", 1))
        config: Any = {
            "endpoint": found.options["endpoint"],
            "region": found.options["region"],
            "access_key_id": self.environment["AWS_ACCESS_KEY_ID"],
            "secret_access_key": self.environment["AWS_SECRET_ACCESS_KEY"],
        }
        return S3Store(
            found.bucket, prefix=found.prefix.removesuffix("pads/"), config=config, client_options={"allow_http": True}
        )

    def kill(self, *nodes: int) -> None:
        """Kill these nodes at once."""
        self._run("kill-node", *map(str, nodes))
        self.down.update(nodes)

    def bring_back(self) -> None:
        """Start every node that was killed."""
        if self.down:
            self._run("start-node", *map(str, sorted(self.down)))
        self.down.clear()

    def stop(self) -> None:
        self._run("stop")

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            [SCRIPT, "--folder", self._folder, *command],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise Unavailable(f"scripts/swift-cluster {command[0]}: {done.stderr.strip()[-2000:]}")
        return done.stdout
