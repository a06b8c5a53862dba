"""Whatever a client sends: refused or ended, logged once, no trace of our code in the answer, others served on."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from anthill_sync import server as server_module
from anthill_sync.server import TLS, PadServer
from tests.cli_tools import until
from tests.support import PATIENCE
from tests.support.certificates import make_certificate
from tests.support.servers import serve
from tests.test_server_api import PAD, PAD_SIZE, Client, digest_of, image

PATH = f"/v1/scratchpads/{PAD.address}"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "anthill_sync")
    return caplog


@pytest.fixture
def server(tmp_path: Path, log: pytest.LogCaptureFixture) -> Iterator[PadServer]:
    with serve(tmp_path / "data", pad_size=PAD_SIZE, connections=4) as running:
        Client(running).put(image(1), 1)
        until(lambda: vars(running)["_server"]._open == 0, "the first connection's end")
        log.clear()
        yield running


def dial(server: PadServer) -> socket.socket:
    host, _, port = server.url.partition("://")[2].rpartition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def say(server: PadServer, data: bytes, *, end: bool = False) -> bytes:
    """Send ``data``, then read until the server ends the connection."""
    with dial(server) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(data)
            if end:
                sock.shutdown(socket.SHUT_WR)
        return read_all(sock)


def read_all(sock: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := sock.recv(65536):
            parts.append(part)
    return b"".join(parts)


def check_alive(server: PadServer) -> None:
    """Other clients are unaffected, and the pad is as it was."""
    assert Client(server).get().body == image(1)


def check_refused(answer: bytes, *statuses: int) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert int(head.split()[1]) in statuses, answer
    assert set(json.loads(body)) >= {"error", "code"}
    assert b"Traceback" not in answer
    assert b".py" not in answer


GARBAGE = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "lower case": (b"get / HTTP/1.1\r\n\r\n", 400),
    "no version": (b"GET /\r\n\r\n", 400),
    "version 9": (b"GET / HTTP/9.9\r\n\r\n", 505),
    "no CR": (b"GET /v1/status HTTP/1.1\nHost: x\n\n", 400),
    "no colon": (b"GET /v1/status HTTP/1.1\r\nnonsense\r\n\r\n", 400),
    "absolute": (b"GET http://elsewhere/ HTTP/1.1\r\n\r\n", 400),
    "long line": (b"GET /" + b"a" * 70_000, 414),
    "huge header": (b"GET /v1/status HTTP/1.1\r\nX: " + b"a" * 70_000, 413),
    "many headers": (b"GET /v1/status HTTP/1.1\r\n" + b"X: y\r\n" * 9_000, 413),
    "length no number": (b"PUT %s HTTP/1.1\r\nContent-Length: many\r\n\r\n" % PATH.encode(), 400),
    "length below 0": (b"PUT %s HTTP/1.1\r\nContent-Length: -5\r\n\r\n" % PATH.encode(), 411),
    "length with sign": (b"PUT %s HTTP/1.1\r\nContent-Length: +5\r\n\r\nhello" % PATH.encode(), 411),
    "length with _": (b"PUT %s HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n" % PATH.encode(), 411),
    "length without end": (b"PUT %s HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\nx" % PATH.encode(), 413),
    "chunked": (b"PUT %s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" % PATH.encode(), 411),
    "both": (b"PUT %s HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % PATH.encode(), 411),
    "coded": (b"PUT %s HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n" % PATH.encode(), 501),
    "connect": (b"CONNECT example.org:25 HTTP/1.1\r\n\r\n", 405),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_refused_in_json_and_logged_once(server: PadServer, log: pytest.LogCaptureFixture, kind: str) -> None:
    data, status = GARBAGE[kind]
    answer = say(server, data)
    if answer:  # a reset may overtake the answer to what was not read
        check_refused(answer, status)
    else:
        assert len(data) > 16_000
    assert len(log.records) == 1, log.text
    assert f" {status} " in log.text
    check_alive(server)


@pytest.mark.parametrize("sent", [0, 1, 20, len(image(2)) - 1])
def test_a_body_that_ends_too_early_changes_nothing(server: PadServer, log: pytest.LogCaptureFixture, sent: int) -> None:
    headers = Client(server).headers("PUT", 2, digest_of(image(2)))
    lines = [f"PUT {PATH} HTTP/1.1", f"Content-Length: {len(image(2))}", *(f"{k}: {v}" for k, v in headers.items())]
    assert say(server, "\r\n".join([*lines, "", ""]).encode() + image(2)[:sent], end=True) == b""
    assert len([r for r in log.records if "PUT" in r.getMessage()]) == 1, log.text
    assert "Traceback" not in log.text
    check_alive(server)


def test_more_than_the_length_says_is_not_part_of_the_image(server: PadServer) -> None:
    headers = Client(server).headers("PUT", 2, digest_of(image(2)))
    lines = [f"PUT {PATH} HTTP/1.1", f"Content-Length: {len(image(2))}", *(f"{k}: {v}" for k, v in headers.items())]
    answer = say(server, "\r\n".join([*lines, "", ""]).encode() + image(2) + b"GARBAGE\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 204")
    assert b"HTTP/1.1 400" in answer
    assert Client(server).get().body == image(2)


def test_silent_connections_hold_up_nobody(server: PadServer) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(dial(server))
        check_alive(server)


def test_one_connection_too_many_is_told_to_come_again(server: PadServer, log: pytest.LogCaptureFixture) -> None:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(dial(server)) for _ in range(4)]
        answer = say(server, b"")
        check_refused(answer, 503)
        assert b"Retry-After: 1\r\n" in answer
        assert len([r for r in log.records if "too many" in r.getMessage()]) == 1
        held[0].close()
        until(lambda: vars(server)["_server"]._open == 3, "the end of a connection")
        check_alive(server)


@pytest.mark.parametrize("start", [b"", b"PUT /v1", b"PUT /v1/status HTTP/1.1\r\nContent-Length: 5\r\n\r\nhe"])
def test_a_client_that_is_too_slow_is_cut_off(
    tmp_path: Path, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    monkeypatch.setattr(server_module, "HEADER_SECONDS", 0.02)
    monkeypatch.setattr(server_module, "IDLE_SECONDS", 0.02)
    monkeypatch.setattr(server_module, "step_seconds", lambda size: 0.02)
    with serve(tmp_path / "data", connections=2) as server, dial(server) as slow:
        slow.sendall(start)
        answer = read_all(slow)
    if b"/v1/status" not in start and answer:
        check_refused(answer, 408)
    assert log.text.count("Traceback") == 0
    assert len(log.records) <= 1, log.text


# -- TLS


@pytest.fixture
def safe(tmp_path: Path, log: pytest.LogCaptureFixture) -> Iterator[PadServer]:
    certificate, key = make_certificate(tmp_path)
    with serve(tmp_path / "data", connections=4, tls=TLS(certificate, key)) as running:
        yield running


def hello(server: PadServer, folder: Path) -> bytes:
    context = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
    with dial(server) as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as sock:
        sock.sendall(b"GET /v1/status HTTP/1.1\r\nConnection: close\r\n\r\n")
        return read_all(sock)


def test_a_handshake_that_never_comes_blocks_nobody(safe: PadServer, tmp_path: Path) -> None:
    with dial(safe) as silent, dial(safe) as half:
        half.sendall(b"\x16\x03\x01")
        assert hello(safe, tmp_path).startswith(b"HTTP/1.1 200")
        silent.close()


def test_plain_words_to_a_safe_server_end_the_connection(safe: PadServer, tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    assert b"HTTP/1.1 200" not in say(safe, b"GET /v1/status HTTP/1.1\r\n\r\n")
    assert len(log.records) == 1, log.text
    assert "Traceback" not in log.text
    assert hello(safe, tmp_path).startswith(b"HTTP/1.1 200")
