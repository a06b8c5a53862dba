"""The pad server: ``PadApi`` behind cheroot, a threaded server that hands bodies on as they come.

What is changed of cheroot: every step of a connection has a limit, the number of open connections is bounded and each
can have a thread, TLS handshakes are not made by the thread that accepts, its own refusals are JSON, and each request,
also a broken one, is one line of the log.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cheroot import server as http
from cheroot import wsgi

from . import durable
from .config import check_home
from .errors import (
    ConfigurationError,
    IndexDamaged,
    InvalidArgument,
    LocalIOError,
    NoRoom,
    PermissionRefused,
    UnknownFormat,
)
from .lock import FileLock
from .networks import wire
from .networks.directory import DirectoryNetwork
from .server_api import RETRY_SECONDS, ClientGone, PadApi, error_body
from .server_archive import Archive, measure
from .server_io import HEADER_SECONDS, Body, Reader, Writer, step_seconds
from .settings import DEFAULT_PAD_SIZE, KIB, check_pad_size
from .threads import no_thread, start

CONNECTIONS = 100  # default of how many may be open at once
GRACE_SECONDS = 5  # what requests in flight get when the server stops
IDLE_SECONDS = 75  # until a connection that sends nothing is closed

_STATE = "server.json"
_FORMAT = 1
_LENGTH = re.compile(rb"[0-9]{1,12}")
_HEADERS = 16 * KIB  # bytes of a request's line and headers

_log = logging.getLogger(__name__)
_access = logging.getLogger(__name__ + ".access")


class _Request(http.HTTPRequest):
    """One request; ``status`` is what it was answered with, as bytes."""

    status: Any

    def __init__(self, server: Any, conn: Any, **options: Any) -> None:
        super().__init__(server, conn, **options)
        self.method, self.uri = b"-", b"-"
        conn.request = self

    def respond(self) -> None:
        text = self.inheaders.get(b"Content-Length", b"0")
        if self.chunked_read or not _LENGTH.fullmatch(text):
            self.close_connection = True
            self.simple_response("411 Length Required", "the length of the body has to be told before it")
            return
        self.rfile = Body(self.conn.rfile, int(text))
        self.conn.rfile.begin(step_seconds(int(text)))
        self.server.gateway(self).respond()
        self.ensure_headers_sent()

    def simple_response(self, status: Any, msg: str = "") -> None:
        """What cheroot itself refuses, as JSON; the connection is closed, for what follows may be anything."""
        self.status, self.close_connection = str(status).encode("ascii", "replace"), True
        body = error_body(msg or str(status)[4:], "http")
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        with contextlib.suppress(OSError):
            self.conn.wfile.write(f"{head}{wire.SERVER}: {self.server.identity}\r\n\r\n".encode("latin-1") + body)


class _Connection(http.HTTPConnection):
    """One client's connection."""

    RequestHandlerClass = _Request

    def __init__(self, server: _Server, sock: socket.socket, makefile: Any) -> None:
        super().__init__(server, sock, lambda sock, mode, size: Reader(sock) if "r" in mode else Writer(sock))
        self.request: _Request | None = None
        self._unproved = isinstance(sock, ssl.SSLSocket)
        self._open = True

    def communicate(self) -> bool:
        """One request and its answer; whether another one may follow."""
        started = time.monotonic()
        self.request = None
        try:
            self._shake_hands()
            self.rfile.begin(HEADER_SECONDS)
            serve_one: Any = super().communicate
            return bool(serve_one())
        except (ClientGone, ssl.SSLError, OSError) as error:
            _access.info("%s: the connection failed: %s", self.remote_addr, error)
            return False
        finally:
            self._log(time.monotonic() - started)

    def _shake_hands(self) -> None:
        if self._unproved:
            self.socket.settimeout(HEADER_SECONDS)
            self.socket.do_handshake()
            self._unproved = False

    def _log(self, seconds: float) -> None:
        request = self.request
        if request is not None and (request.status or request.method != b"-"):
            line, status = f"{request.method!r} {request.uri[:200]!r}", bytes(request.status or b"-")[:3].decode("latin-1")
            _access.info("%s %s %s %.3f s", self.remote_addr, line.replace("b'", "'"), status, seconds)

    def close(self) -> None:
        if self._open:
            self._open = False
            self.server.connection_over()
        with contextlib.suppress(OSError):
            super().close()


class _Safe:
    """TLS for cheroot: the handshake is left to the thread that serves the first request."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate, key)

    def bind(self, sock: socket.socket) -> socket.socket:
        return sock

    def wrap(self, sock: socket.socket) -> tuple[ssl.SSLSocket, dict[str, Any]]:
        return self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False), {}

    def makefile(self, sock: socket.socket, mode: str, size: int) -> None:
        """Never called: the connection makes its own files."""


class _Server(wsgi.Server):
    """cheroot with a limit on connections. ``_counted`` guards the number of open ones."""

    ConnectionClass = _Connection

    def __init__(self, listen: tuple[str, int], api: PadApi, facts: wire.Facts, connections: int) -> None:
        super().__init__(
            listen,
            api,
            numthreads=connections,
            max=connections,
            request_queue_size=128,
            timeout=IDLE_SECONDS,
            shutdown_timeout=GRACE_SECONDS,
            server_name="anthill",
        )
        self.identity = facts.server
        self.max_request_header_size = _HEADERS
        self.max_request_body_size = facts.pad_size  # what is longer is not even read to its end
        self.keep_alive_conn_limit = connections
        self._most = connections
        self._open = 0
        self._counted = threading.Lock()

    def process_conn(self, conn: _Connection) -> None:
        """A connection for a thread: one with another request, or a new one."""
        if conn.last_used is not None or self._count():
            super().process_conn(conn)
        else:
            _refuse(conn)

    def _count(self) -> bool:
        with self._counted:
            self._open += 1
            return self._open <= self._most

    def connection_over(self) -> None:
        with self._counted:
            self._open -= 1

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """To our log; a client's broken connection is no error of ours."""
        _log.log(level, "%s", msg, exc_info=traceback and level >= logging.ERROR)


def _refuse(conn: _Connection) -> None:
    """One answer that fits into any socket's buffer, sent from the accepting thread; over TLS just the end."""
    body = error_body("too many connections", "busy")
    head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(body)}\r\nRetry-After: {RETRY_SECONDS}\r\n"
    with contextlib.suppress(OSError):
        if not isinstance(conn.socket, ssl.SSLSocket):
            conn.socket.setblocking(False)
            conn.socket.send(head.encode() + b"Content-Type: application/json\r\nConnection: close\r\n\r\n" + body)
    _access.info("%s: too many connections", conn.remote_addr)
    conn.close()


# -- the server as a whole


@dataclass(frozen=True)
class TLS:
    """Files of a certificate (with its chain) and its key, both PEM."""

    certificate: Path
    key: Path


class PadServer:
    """A pad server on ``data``, listening once made; ``start`` serves, ``stop`` ends what is in flight first.

    ``listen``: host and port, 0 for any free port. ``quota``: bytes all pads may take. ``pad_size``: largest image,
    fixed when ``data`` is first used. ``ConfigurationError`` for an address or certificate that cannot be used,
    ``StoreLocked`` while another server has the folder.
    """

    def __init__(
        self,
        data: Path,
        *,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        quota: int | None = None,
        connections: int = CONNECTIONS,
        tls: TLS | None = None,
        pad_size: int | None = None,
    ) -> None:
        if connections < 1:
            raise InvalidArgument("a server needs at least one connection")
        self._lock = FileLock(data / "lock")
        self._thread: threading.Thread | None = None
        with contextlib.ExitStack() as undo:
            state = self._take(data, pad_size, undo)
            archive = Archive(DirectoryNetwork(data / "pads", state.pad_size), used=measure(data / "pads"), quota=quota)
            self._server = _Server(listen, PadApi(archive, state.server), state, connections)
            self._server.ssl_adapter = None if tls is None else _adapter(tls)
            _prepare(self._server, listen)
            undo.pop_all()
        self.server_id = state.server
        self._scheme = "http" if tls is None else "https"

    def _take(self, data: Path, pad_size: int | None, undo: contextlib.ExitStack) -> wire.Facts:
        try:
            data.parent.mkdir(parents=True, exist_ok=True)
            durable.make_folder(data)
            check_home(data)
            self._lock.acquire(0.0)
            undo.callback(self._lock.release)
            durable.make_folder(data / "pads")
        except PermissionError as error:
            raise PermissionRefused(f"{data}: {error.strerror}") from error
        except OSError as error:
            raise NoRoom(f"{data}: {error.strerror}") from error
        return _state(data / _STATE, pad_size)

    @property
    def url(self) -> str:
        """Where clients find it."""
        host, port = self._server.bind_addr
        return f"{self._scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def start(self) -> None:
        """Serve, on threads of its own."""
        (self._thread,) = start(threading.Thread(target=self._server.serve, name="anthill-accept", daemon=True))

    def wait(self) -> None:
        """Return when the server has ended; a signal's exception ends the wait."""
        if self._thread is not None:
            self._thread.join()

    def stop(self) -> None:
        """Accept nothing more; requests in flight get ``GRACE_SECONDS``. Safe to repeat."""
        self._server.stop()
        self.wait()
        self._lock.release()

    def __enter__(self) -> PadServer:
        if self._thread is None:
            self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def _adapter(tls: TLS) -> _Safe:
    try:
        return _Safe(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"cannot use the certificate {tls.certificate} with the key {tls.key}: {error}") from error


def _prepare(server: _Server, listen: tuple[str, int]) -> None:
    try:
        server.prepare()
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {listen[0]}:{listen[1]}: {error}") from error
    except RuntimeError as error:
        raise no_thread(error) from error


def _state(path: Path, pad_size: int | None) -> wire.Facts:
    """The server's id and pad size, made once and for all."""
    try:
        fields = json.loads(path.read_bytes())
        if fields["format"] != _FORMAT:
            raise UnknownFormat(f"{path}: format {fields['format']!r}; this version reads {_FORMAT}")
        facts = wire.Facts(fields["server"], check_pad_size(fields["pad_size"]))
        if not wire.is_id(facts.server):
            raise ValueError("not an id")
    except FileNotFoundError:
        return _new_state(path, DEFAULT_PAD_SIZE if pad_size is None else check_pad_size(pad_size))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IndexDamaged(f"{path}: damaged; restore it from a copy: stores know this server by the id in it") from error
    except OSError as error:
        raise LocalIOError(f"{path}: {error.strerror}") from error
    if pad_size not in (None, facts.pad_size):
        raise ConfigurationError(f"{path}: this server has pads of {facts.pad_size} bytes, not {pad_size}")
    return facts


def _new_state(path: Path, pad_size: int) -> wire.Facts:
    facts = wire.Facts(os.urandom(16).hex(), pad_size)
    fields = {"format": _FORMAT, "server": facts.server, "pad_size": pad_size}
    try:
        durable.replace_file(path, (json.dumps(fields, indent=2) + "\n").encode())
    except OSError as error:
        raise NoRoom(f"{path}: {error.strerror}") from error
    return facts


__all__ = ["CONNECTIONS", "TLS", "PadServer"]
