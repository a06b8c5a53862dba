"""``anthill init`` against pad servers that are there, not there, and not ours."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from anthill_sync.server import TLS, PadServer
from tests.cli_tools import Shell
from tests.faults.proxy import Proxy, nothing, storm, whole
from tests.support.certificates import make_certificate
from tests.support.servers import serve

STATUS = {"service": "anthill", "version": 1, "server": "0123456789abcdef" * 2, "pad_size": 1 << 22}


def status(**other: object) -> bytes:
    return whole(json.dumps({**STATUS, **other}).encode())


NOT_OURS: dict[str, tuple[bytes, int, str]] = {
    "a web page": (whole(b"<html>hello</html>"), 76, "is not a pad server"),
    "nothing there": (whole(b"", "404 Not Found"), 76, "is not a pad server (it answers 404"),
    "a redirect": (whole(b"", "302 Found", "Location: https://elsewhere.example/"), 76, "is not a pad server (it answers 302"),
    "another service": (status(service="weather"), 76, "is not a pad server"),
    "a newer version": (status(version=2), 76, "version 2; this program speaks 1"),
    "impossible facts": (status(server="me"), 76, "impossible facts"),
    "small pads": (status(pad_size=16 * 1024), 78, "--pad-size"),
    "too much": (whole(b" " * 100_000), 76, "more than"),
    "busy": (whole(b"", "503 Service Unavailable", "Retry-After: 0"), 75, "patience"),
    "a proxy's failure": (whole(b"", "502 Bad Gateway"), 75, "502"),
    "cut off": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", 75, "cannot talk to"),
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PadServer]:
    with serve(tmp_path / "data") as running:
        yield running


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHILL_BACKOFF_BASE", "0")


def check_refused(shell: Shell, url: str, code: int, words: str, *options: object) -> None:
    """One line that says why, the right code, and no store."""
    result = shell("init", "--network", url, *options)
    assert result.code == code, result
    assert words in result.err
    assert result.err.count("\n") == 1
    assert result.out == ""
    assert shell("ls").code == 78


@pytest.mark.parametrize("kind", NOT_OURS)
def test_init_names_what_is_wrong_with_the_server_and_makes_no_store(server: PadServer, tmp_path: Path, kind: str) -> None:
    said, code, words = NOT_OURS[kind]
    shell = Shell(tmp_path / "home")
    with Proxy(server.url, says={kind: said}) as proxy:
        proxy.plan = storm(1, 10**6, kind)
        check_refused(shell, proxy.url, code, words)
        assert proxy.requests == (5 if code == 75 else 1)  # what may pass is asked again
        proxy.plan = nothing
        shell.ok("init", "--network", proxy.url)
        shell.ok("put", "k", "-", stdin=b"v")
        assert shell.ok("get", "k").data == b"v"


def test_init_with_nobody_at_the_url_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    check_refused(Shell(tmp_path / "home"), url, 75, f"cannot talk to {url}: Connection refused")


def test_init_with_a_certificate_that_is_not_trusted_names_the_setting(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    with serve(tmp_path / "data", tls=TLS(certificate, key)) as safe:
        shell = Shell(tmp_path / "home")
        check_refused(shell, safe.url, 76, "ca_file")
        shell.ok("init", "--network", safe.url, "--set", f"ca_file={certificate}")
        shell.ok("put", "k", "-", stdin=b"v")
        assert shell.ok("get", "k").data == b"v"


def test_init_over_plain_http_to_another_machine_has_to_be_allowed(tmp_path: Path) -> None:
    check_refused(Shell(tmp_path / "home"), "http://pads.example:8620", 78, "allow_plain_http")


def test_init_with_a_key_that_has_data_there_names_the_ways_out(server: PadServer, tmp_path: Path) -> None:
    first, second = Shell(tmp_path / "first"), Shell(tmp_path / "second")
    first.ok("init", "--network", server.url)
    first.ok("put", "k", "-", stdin=b"v")
    key = ("--key-file", first.home / "key")
    check_refused(second, server.url, 73, "--slot 1", *key)
    second.ok("init", "--network", server.url, *key, "--slot", "1")
    second.ok("put", "k", "-", stdin=b"w")
    assert (first.ok("get", "k").data, second.ok("get", "k").data) == (b"v", b"w")
