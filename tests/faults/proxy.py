"""A proxy between a client and a pad server, or an object store, that does to requests what networks do to them.

Which fault meets which request is decided by a plan: of the seed and the request's number, or of what is asked. A fault
is one of:

- ``lost``: the server acts, its answer is thrown away and the connection ends
- ``refused``: the connection ends before the server hears of the request
- ``reset``: the connection is reset in the middle of the request's body
- ``cut``: the answer ends in the middle
- ``twice``: the server gets the request two times
- ``late``: the answer waits until one more request was answered, or nobody else is there
- ``drip``: the answer comes byte by byte
- ``500``, ``429``, ``503``: said instead of asking the server
- ``silent``: nothing is said until the client goes away
- a name in ``Proxy.says``: those bytes, or parts without end, instead of asking the server; then the connection ends
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

PASSING = ("lost", "refused", "reset", "cut", "twice", "late", "drip", "500", "429", "503")
PATIENCE = 20.0  # seconds; never waited for when all is well


class Asked(NamedTuple):
    """A request that has just come."""

    number: int  # from 1
    method: str
    path: str


Saying = bytes | Callable[[], Iterable[bytes]]  # said instead of an answer; parts may be without end
Plan = Callable[[Asked], str | None]  # -> the request's fault; one request is asked about at a time


def nothing(asked: Asked) -> None:
    """No fault at all."""


def seeded(seed: int, share: float, faults: tuple[str, ...] = PASSING) -> Plan:
    """Every request meets a fault with probability ``share``."""

    def plan(asked: Asked) -> str | None:
        chance = random.Random(f"{seed}/{asked.number}")
        return chance.choice(faults) if chance.random() < share else None

    return plan


def storm(first: int, last: int, fault: str) -> Plan:
    """Requests ``first`` to ``last`` all meet ``fault``."""
    return lambda asked: fault if first <= asked.number <= last else None


@dataclass
class Proxy:
    """A proxy in front of ``upstream``; use with ``with``. ``plan`` may be changed at any time."""

    upstream: str
    plan: Plan = nothing
    retry_after: str = "0"  # what 429 and 503 ask for; empty: they do not
    says: Mapping[str, Saying] = field(default_factory=dict)  # by fault
    wire: bytearray | None = None  # takes all that goes over it, both ways, when it is there
    requests: int = 0
    met: Counter[str] = field(default_factory=Counter)  # faults that happened
    methods: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._changed = threading.Condition()  # guards the counts above and below
        self._running = 0
        self._answered = 0
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reset(self, plan: Plan) -> None:
        """Count from 1 again, with another plan."""
        with self._changed:
            self.plan, self.requests = plan, 0
            self.met.clear()
            self.methods.clear()

    def begin(self, method: str, path: str) -> str | None:
        """The fault of the request that has just come."""
        with self._changed:
            self.requests += 1
            self._running += 1
            self.methods[method] += 1
            fault = self.plan(Asked(self.requests, method, path))
            if fault:
                self.met[fault] += 1
            return fault

    def overhear(self, *parts: bytes) -> None:
        """These bytes went over the wire."""
        if self.wire is not None:
            with self._changed:
                self.wire += b"\n".join(parts)

    def end(self) -> None:
        with self._changed:
            self._running -= 1
            self._answered += 1
            self._changed.notify_all()

    def wait_for_another(self) -> None:
        """Return when another request was answered, or none is on its way."""
        with self._changed:
            before = self._answered
            self._changed.wait_for(lambda: self._answered > before or self._running <= 1, PATIENCE)


class _Upstream:
    """A connection to the server, kept for the requests of one client's connection."""

    def __init__(self) -> None:
        self._connection = http.client.HTTPConnection("nowhere")

    def ask(self, server: str, method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
        """The whole answer of the server at this URL, as it goes over the wire."""
        address = urlsplit(server)
        if (self._connection.host, self._connection.port) != (address.hostname, address.port):
            self.close()
            self._connection = http.client.HTTPConnection(address.netloc, timeout=PATIENCE)
        self._connection.request(method, path, body or None, headers)
        answer = self._connection.getresponse()
        data = answer.read()
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
        lines += [f"{name}: {value}" for name, value in answer.getheaders() if name.lower() not in ("connection", "keep-alive")]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + data

    def close(self) -> None:
        self._connection.close()


def whole(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """An answer for ``says``."""
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]).encode("latin-1") + body


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE

    def setup(self) -> None:
        super().setup()
        self._upstream = _Upstream()

    def finish(self) -> None:
        self._upstream.close()
        super().finish()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""

    def handle_one_request(self) -> None:
        with contextlib.suppress(OSError):
            super().handle_one_request()
            return
        self.close_connection = True

    def _serve(self) -> None:
        fault = self.proxy.begin(self.command, self.path)
        try:
            self._meet(fault)
        finally:
            self.proxy.end()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815

    def _meet(self, fault: str | None) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if fault == "reset":
            self.rfile.read(length // 2)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            raise ConnectionResetError
        body = self.rfile.read(length)
        if fault == "silent":
            self._wait_for_its_end()
        elif fault == "refused":
            self._hang_up()
        elif fault in ("500", "429", "503"):
            self._say(fault)
        elif fault is not None and fault in self.proxy.says:
            self._say_parts(self.proxy.says[fault])
        else:
            self._pass_on(fault, body)

    def _pass_on(self, fault: str | None, body: bytes) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        self.proxy.overhear(self.requestline.encode("latin-1"), bytes(self.headers), body)
        for _ in range(2 if fault == "twice" else 1):
            answer = self._upstream.ask(self.proxy.upstream, self.command, self.path, headers, body)
        self.proxy.overhear(answer)
        if fault == "late":
            self.proxy.wait_for_another()
        if fault == "lost":
            self._hang_up()
        elif fault == "cut":
            self.wfile.write(answer[: len(answer) // 2])
            self._hang_up()
        elif fault == "drip":
            for start in range(len(answer)):
                self.wfile.write(answer[start : start + 1])
        else:
            self.wfile.write(answer)

    def _say(self, status: str) -> None:
        asks = "" if status == "500" or not self.proxy.retry_after else f"Retry-After: {self.proxy.retry_after}\r\n"
        self.wfile.write(f"HTTP/1.1 {status} Said by the proxy\r\n{asks}Content-Length: 0\r\n\r\n".encode())

    def _say_parts(self, saying: Saying) -> None:
        with contextlib.suppress(OSError):
            for part in (saying,) if isinstance(saying, bytes) else saying():
                self.wfile.write(part)
        self._hang_up()

    def _wait_for_its_end(self) -> None:
        """Say nothing until the client goes away."""
        with contextlib.suppress(OSError):
            while self.connection.recv(1 << 16):
                pass
        self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
