"""``anthill serve`` as a process: how it starts, is refused, stops and dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from anthill_sync.networks.base import Network, Pad
from anthill_sync.networks.directory import DirectoryNetwork
from anthill_sync.networks.http import open_http
from anthill_sync.settings import MIB, Settings
from tests.cli_tools import make_shell, run, spawn, until
from tests.support import PATIENCE, make_image, make_pad, run_threads
from tests.support.certificates import make_certificate
from tests.test_server_api import PAD, Client, digest_of, image


class Running:
    """A server process, as a ``Client`` wants it."""

    def __init__(self, process: Any) -> None:
        self.process = process
        self.url = process.stdout.readline().decode().strip()
        self.server_id = ""
        if self.url.startswith("http://"):
            self.server_id = self.client.call("GET", "/v1/status").json["server"]

    @property
    def client(self) -> Client:
        return Client(self)

    def resident(self) -> int:
        """Bytes of memory it has now."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) * 1024


@contextmanager
def serving(data: Path, *options: object, **how: Any) -> Iterator[Running]:
    arguments = ["serve", "--listen", "127.0.0.1:0", "--data", data, "--max-connections", 8, *options]
    with spawn(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


def half_sent(server: Running, body: bytes, counter: int) -> tuple[socket.socket, bytes]:
    """A connection on which the first half of a PUT was sent, and the other half."""
    headers = server.client.headers("PUT", counter, digest_of(body))
    lines = [
        f"PUT /v1/scratchpads/{PAD.address} HTTP/1.1",
        f"Content-Length: {len(body)}",
        *(f"{k}: {v}" for k, v in headers.items()),
    ]
    data = "\r\n".join([*lines, "", ""]).encode() + body
    host, port = server.client.host.split(":")
    sock = socket.create_connection((host, int(port)), timeout=PATIENCE)
    sock.sendall(data[: len(data) // 2])
    return sock, data[len(data) // 2 :]


def in_flight(server: Running) -> None:
    """Wait until the server has accepted everything: one request more was answered after it."""
    assert server.client.call("GET", "/v1/status").status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_after_what_is_in_flight(tmp_path: Path, number: int) -> None:
    body = image(1, os.urandom(MIB))
    with serving(tmp_path / "data") as server:
        sock, rest = half_sent(server, body, 1)
        in_flight(server)
        server.process.send_signal(number)
        until(lambda: _refuses(server), "the listening socket to close")
        sock.sendall(rest)
        assert sock.recv(1000).startswith(b"HTTP/1.1 204")
        sock.close()
        assert server.process.wait(PATIENCE) == -number
        assert server.process.stderr.read().decode() == ""
    assert DirectoryNetwork(tmp_path / "data" / "pads", 4 * MIB).read(PAD) == body


def _refuses(server: Running) -> bool:
    try:
        host, port = server.client.host.split(":")
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except OSError:
        return True
    return False


def test_a_killed_server_leaves_the_old_image_or_the_new_one(tmp_path: Path) -> None:
    images = [image(n, bytes([n]) * 300_000) for n in range(1, 13)]
    seen = set()
    for kill in (4, 8, 12):
        with serving(tmp_path / "data") as server:
            for number in range(kill - 3, kill):
                assert server.client.put(images[number - 1], number).status == 204
            sock, _ = half_sent(server, images[kill - 1], kill)
            in_flight(server)
            server.process.kill()
            server.process.wait(PATIENCE)
            sock.close()
        path = tmp_path / "data" / "pads" / PAD.address[:2] / PAD.address
        if path.exists():
            seen.add(path.read_bytes())
    assert seen
    assert seen <= set(images)


def test_one_folder_has_one_server(tmp_path: Path) -> None:
    with serving(tmp_path / "data"):
        second = run("serve", "--listen", "127.0.0.1:0", "--data", tmp_path / "data")
    assert second.code == 75
    assert "lock" in second.err


def test_every_request_is_one_line_of_the_log_with_v_only(tmp_path: Path) -> None:
    for options, lines in (((), 0), (("-v",), 3)):
        with serving(tmp_path / "data", *options) as server:
            server.client.reserve()
            server.client.call("GET", "/../etc/passwd")
            server.process.terminate()
            assert len(server.process.stderr.read().decode().splitlines()) == lines


def test_a_failing_disk_is_said_without_v(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        os.rename(tmp_path / "data" / "pads", tmp_path / "elsewhere")
        assert server.client.put(image(1), 1).status == 500
        server.process.terminate()
        assert "there is no folder" in server.process.stderr.read().decode()


WRONG = {
    "no port": (["--listen", "127.0.0.1"], 64),
    "port too high": (["--listen", "127.0.0.1:70000"], 64),
    "no such host": (["--listen", "host.invalid:0"], 78),
    "not ours": (["--listen", "192.0.2.1:0"], 78),
    "bad quota": (["--quota", "much"], 64),
    "no connections": (["--max-connections", "0"], 64),
    "half of TLS": (["--tls-cert", "x"], 64),
    "no certificate": (["--tls-cert", "/nonexistent", "--tls-key", "/nonexistent"], 78),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_served_is_said_in_one_line(tmp_path: Path, kind: str) -> None:
    options, code = WRONG[kind]
    result = run("serve", "--listen", "127.0.0.1:0", "--data", tmp_path / "data", *options)
    assert (result.code, result.out) == (code, "")
    assert len(result.err.splitlines()) == 1
    assert "Traceback" not in result.err


def test_a_damaged_identity_is_never_replaced(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        assert json.loads((tmp_path / "data" / "server.json").read_bytes())["server"] == server.server_id
    for text, code in (
        ("{", 65),
        ("[" * 10**5, 65),
        ('{"format": 1, "server": "x", "pad_size": 65536}', 65),
        ('{"format": 9}', 78),
    ):
        (tmp_path / "data" / "server.json").write_text(text)
        result = run("serve", "--listen", "127.0.0.1:0", "--data", tmp_path / "data")
        assert (result.code, (tmp_path / "data" / "server.json").read_text()) == (code, text)


def test_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o777)
    result = run("serve", "--listen", "127.0.0.1:0", "--data", tmp_path / "data")
    assert (result.code, "chmod" in result.err) == (77, True)


def test_a_store_on_a_server_by_the_shell_alone(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    with serving(tmp_path / "data", "--tls-cert", certificate, "--tls-key", key, "--quota", "1GiB") as server:
        shell = make_shell(tmp_path / "home", "--network", server.url, "--set", f"ca_file={certificate}")
        shell.ok("put", "k", "-", stdin=b"value")
        assert shell.ok("get", "k").data == b"value"
        assert shell.run("get", "k").data == b"value"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_is_bounded_and_does_not_grow_with_requests(tmp_path: Path) -> None:
    connections, size = 8, 4 * MIB
    with serving(tmp_path / "data") as server:
        settings = Settings(reserve_threads=2, upload_threads=4, download_threads=2)
        network = open_http(server.url, settings=settings, facts={})
        large = make_image(os.urandom(size))
        run_threads([partial(network.write, make_pad(n), large) for n in range(24)], threads=8)
        run_threads([partial(network.read, make_pad(n)) for n in range(24)], threads=8)
        assert server.resident() <= 100 * MIB + 2 * size * connections
        _many(network, range(1, 11))
        before = server.resident()
        _many(network, range(11, 51))
        assert server.resident() - before <= 2 * MIB
        network.close()


def _many(network: Network, counters: range) -> None:
    """Small images with these counters, to each of 40 pads."""

    def write(pad: Pad) -> None:
        for counter in counters:
            network.write(pad, make_image(image(counter), counter))

    run_threads([partial(write, make_pad(100 + n)) for n in range(40)], threads=8)
