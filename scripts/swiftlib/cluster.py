"""Processes of the cluster. Each is known by its number, written down when it starts, and is only ever signalled after a
look at what it runs: a number may have become somebody else's."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from . import configuration
from .signing import signed_headers

NODES = range(1, 5)
BUCKET = "anthill"
PATIENCE = 60.0  # seconds until a start or an end has failed


class Cluster:
    """The cluster in ``folder``, whether it runs or not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    @property
    def url(self) -> str:
        """The network URL of its bucket."""
        return f"s3://{BUCKET}?endpoint=http://127.0.0.1:{self._ports()['proxy']}&region={configuration.REGION}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": configuration.USER,
            "AWS_SECRET_ACCESS_KEY": configuration.PASSWORD,
            "AWS_REGION": configuration.REGION,
        }

    def start(self, owner: int | None = None) -> None:
        """Start all servers on empty disks, and make the bucket. They end when the process ``owner`` does."""
        if any(self._running(name) for name in self._servers()):
            raise RuntimeError(f"it runs already in {self._folder}: stop it first")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        ports = dict(zip(("proxy", *configuration.KINDS), _free_ports(1 + len(configuration.KINDS)), strict=True))
        (self._folder / "ports.json").write_text(json.dumps(ports))
        (self._folder / "owner").write_text("" if owner is None else str(owner))
        configuration.write(self._folder, NODES, ports)
        try:
            self._launch(self._servers())
            self._make_bucket()
        except BaseException:
            self._end(self._servers())
            raise

    def stop(self) -> None:
        """End what runs and remove the folder."""
        self._end(self._servers())
        shutil.rmtree(self._folder, ignore_errors=True)

    def kill_nodes(self, nodes: list[int]) -> None:
        """End all servers of some nodes at once, as a power cut would; their data stay."""
        self._ports()
        self._end([name for node in nodes for name in _servers_of(node)])

    def start_nodes(self, nodes: list[int]) -> None:
        """Start them again."""
        self._ports()
        self._launch([name for node in nodes for name in _servers_of(node) if not self._running(name)])

    def status(self) -> str:
        """A line per node, and one for the proxy."""
        lines = [f"node {node}: {'runs' if all(map(self._running, _servers_of(node))) else 'is down'}" for node in NODES]
        return "\n".join([*lines, f"proxy: {'runs' if self._running('proxy') else 'is down'}"]) + "\n"

    # -- processes

    def _servers(self) -> list[str]:
        return [name for node in NODES for name in _servers_of(node)] + ["proxy"]

    def _launch(self, names: list[str]) -> None:
        owner = (self._folder / "owner").read_text().split()
        for name in names:
            command = [sys.executable, "-m", "swiftlib.server", name.rstrip("1234"), str(self._folder / f"{name}.conf"), *owner]
            with (self._folder / f"{name}.log").open("ab") as log:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder, start_new_session=True
                )
            (self._folder / f"{name}.pid").write_text(str(process.pid))
        for name in names:
            _until(lambda name=name: self._answers(name), f"{name} does not start: see {self._folder / name}.log")

    def _answers(self, name: str) -> bool:
        ports, node = self._ports(), name[-1] if name != "proxy" else "1"
        try:
            socket.create_connection((f"127.0.0.{node}", ports[name.rstrip("1234")]), timeout=1).close()
        except OSError:
            if not self._running(name):
                raise RuntimeError(f"{name} has ended: see {self._folder / name}.log") from None
            return False
        return True

    def _pid(self, name: str) -> int | None:
        try:
            return int((self._folder / f"{name}.pid").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _running(self, name: str) -> bool:
        try:
            command = Path(f"/proc/{self._pid(name)}/cmdline").read_bytes()
        except OSError:
            return False
        return str(self._folder / f"{name}.conf").encode() in command

    def _end(self, names: list[str]) -> None:
        for name in names:
            pid = self._pid(name)
            if pid is not None and self._running(name):
                os.kill(pid, signal.SIGKILL)
        for name in names:
            _until(lambda name=name: not self._running(name), f"{name} does not end")

    def _ports(self) -> dict[str, int]:
        try:
            ports: dict[str, int] = json.loads((self._folder / "ports.json").read_text())
        except FileNotFoundError:
            raise RuntimeError(f"there is no cluster in {self._folder}: start it first") from None
        return ports

    # -- what a new cluster needs

    def _make_bucket(self) -> None:
        """The first requests make the account, and may fail until all servers know each other."""
        host, path = f"127.0.0.1:{self._ports()['proxy']}", f"/{BUCKET}"
        who = {"user": configuration.USER, "password": configuration.PASSWORD, "region": configuration.REGION}

        def made() -> bool:
            connection = http.client.HTTPConnection(host, timeout=20)
            try:
                headers = signed_headers("PUT", host, path, **who)
                connection.request("PUT", path, headers={"Content-Length": "0", **headers})
                return connection.getresponse().status in (200, 409)  # 409: an earlier one made it
            finally:
                connection.close()

        _until(made, "the bucket cannot be made")


def _servers_of(node: int) -> list[str]:
    return [f"{kind}{node}" for kind in configuration.KINDS]


def _free_ports(count: int) -> list[int]:
    """Ports that are free on the address of every node; held until all are found, so that they differ."""
    found = []
    with ExitStack() as held:
        while len(found) < count:
            first = held.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = first.getsockname()[1]
            try:
                for node in NODES[1:]:
                    held.enter_context(socket.create_server((f"127.0.0.{node}", port)))
            except OSError:
                continue
            found.append(port)
    return found


def _until(condition: Callable[[], bool], failure: str) -> None:
    ends = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > ends:
            raise RuntimeError(failure)
        time.sleep(0.05)
