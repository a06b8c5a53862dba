"""A server on the loopback that gives the answers it is told to give: for what no real server says when asked to."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PATIENCE = 20.0  # seconds; never waited for when all is well


@dataclass(frozen=True)
class Answer:
    """``cut``: bytes of the body that are sent before the connection ends; ``hang``: nothing is ever said."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    hang: bool = False


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]  # names in small letters
    body: bytes


class Scripted:
    """Use with ``with``. ``answers`` are given in turn, the last one again and again."""

    def __init__(self, *answers: Answer, tls: tuple[Path, Path] | None = None) -> None:
        self._scheme = "http" if tls is None else "https"
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.released = threading.Event()  # ends hanging answers
        self._lock = threading.Lock()  # guards both lists
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"script": self}))
        self._server.daemon_threads = True
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Scripted:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def take(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class _Handler(BaseHTTPRequestHandler):
    script: Scripted
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""

    def handle_one_request(self) -> None:
        with contextlib.suppress(OSError):  # a client that goes away, or does not trust us
            super().handle_one_request()
            return
        self.close_connection = True

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.script.answers[0]
        body = b"" if answer.hang else self.rfile.read(int(headers.get("content-length") or 0))
        answer = self.script.take(Request(self.command, self.path, headers, body))
        if answer.hang:
            self.script.released.wait(PATIENCE)
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: answer.cut])
        self.close_connection = answer.cut is not None

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815
