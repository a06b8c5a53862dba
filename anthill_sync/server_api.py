"""The HTTP interface of the pad server, as a WSGI application. Every answer names the server, every error is JSON.

Nothing of a request is trusted before its signature is verified; a body is read only then, into a buffer that is used
again by later requests.
"""

from __future__ import annotations

import errno
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .errors import InvalidArgument, NetworkError, OutOfSpace, PadNotFound, TransientNetworkError
from .networks import wire
from .networks.base import Image
from .server_archive import Archive, Stored, StoredConflict, counter_agrees
from .settings import KIB

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]

RETRY_SECONDS = 1  # what a server that cannot answer now asks for
_SMALL = 64 * KIB  # bytes; buffers up to this are not worth keeping

_ADDRESS = re.compile(r"[0-9a-f]{64}")
_LENGTH = re.compile(r"[0-9]{1,12}")
_COUNTER = re.compile(r"[1-9][0-9]{0,19}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")
_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""


class Refused(Exception):
    """The request is answered with this error and nothing else happens."""

    def __init__(self, status: int, code: str, error: str, **more: Any) -> None:
        super().__init__(error)
        self.status, self.fields = status, {"error": error, "code": code, **more}


class ClientGone(ConnectionError):
    """The client ended the connection in the middle of its request: there is nobody to answer."""


def error_body(error: str, code: str) -> bytes:
    """An error as the JSON that every refusal has."""
    return json.dumps({"error": error, "code": code}).encode() + b"\n"


class Buffers:
    """Large buffers, used again: as many as requests have run at once. A list's ``pop`` and ``append`` need no lock."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free: list[bytearray] = []

    @contextmanager
    def lease(self, length: int) -> Iterator[memoryview]:
        """``length`` bytes to write into; they belong to somebody else afterwards."""
        if length <= _SMALL:
            yield memoryview(bytearray(length))
            return
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = bytearray(self._size)
        try:
            with memoryview(buffer) as whole, whole[:length] as part:
                yield part
        finally:
            self._free.append(buffer)


class PadApi:
    """The application for one archive. May be called by any number of threads."""

    def __init__(self, archive: Archive, server: str) -> None:
        self._archive = archive
        self._server = server
        self._buffers = Buffers(archive.pad_size)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        reply = self._reply(environ)
        status = f"{reply.status} {HTTPStatus(reply.status).phrase}"
        start_response(status, [*reply.headers, (wire.SERVER, self._server)])
        return [reply.body] if reply.body and environ["REQUEST_METHOD"] != "HEAD" else []

    def _reply(self, environ: Environ) -> Reply:
        try:
            return self._route(environ)
        except Refused as error:
            return _json(error.status, error.fields)
        except NetworkError as error:
            return self._failure(error)
        except OSError:
            raise  # the client's connection; the archive translates its own
        except Exception:  # noqa: BLE001 - whatever it is, the client gets JSON and the log the trace
            _log.exception("a bug in the pad server")
            return _json(500, {"error": "the server failed; its log says why", "code": "bug"})

    def _route(self, environ: Environ) -> Reply:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path == wire.STATUS_PATH:
            _allow(method, "GET", "HEAD")
            return _json(200, self._facts())
        address = path.removeprefix(wire.PADS_PATH)
        if not path.startswith(wire.PADS_PATH) or not _ADDRESS.fullmatch(address):
            raise Refused(404, "path", f"there is nothing here but {wire.STATUS_PATH} and {wire.PADS_PATH} with an address")
        _allow(method, "GET", "HEAD", "POST", "PUT")
        return {"GET": self._get, "HEAD": self._head, "POST": self._reserve, "PUT": self._put}[method](address, environ)

    def _facts(self) -> dict[str, Any]:
        archive = self._archive
        facts = {"service": wire.SERVICE, "version": wire.VERSION, "server": self._server, "pad_size": archive.pad_size}
        return {**facts, "quota": archive.quota, "used": archive.used}

    # -- calls

    def _head(self, address: str, environ: Environ) -> Reply:
        stored = self._archive.look(address)
        if stored is None:
            raise PadNotFound("no such pad")
        return Reply(200, [*_type(stored.size), ("Accept-Ranges", "bytes"), *_facts_of(stored)])

    def _get(self, address: str, environ: Environ) -> Reply:
        match = _RANGE.fullmatch(environ.get("HTTP_RANGE", ""))
        if match is None or (match[2] and int(match[2]) < int(match[1])):  # other forms may be left alone
            data = self._archive.read(address, 0, None)
            return Reply(200, [*_type(len(data)), ("Accept-Ranges", "bytes")], data)
        first = int(match[1])
        data = self._archive.read(address, first, int(match[2]) - first + 1 if match[2] else None)
        if not data:
            raise Refused(416, "range", "the image ends before this range")
        headers = [*_type(len(data)), ("Content-Range", f"bytes {first}-{first + len(data) - 1}/*")]
        return Reply(206, headers, data)

    def _reserve(self, address: str, environ: Environ) -> Reply:
        self._verify("POST", address, environ, 0, wire.NO_DIGEST)
        created = self._archive.reserve(address)
        return Reply(201 if created else 200, [("Content-Length", "0")])

    def _put(self, address: str, environ: Environ) -> Reply:
        counter, digest = _counter(environ), _digest(environ)
        self._verify("PUT", address, environ, counter, digest)
        with self._buffers.lease(self._length(environ)) as data:
            _receive(environ, data)
            if blake3(data).digest(length=16) != digest:
                raise Refused(422, "digest", "the body does not match its digest")
            image = Image(data, counter, digest)
            if not counter_agrees(image, address):
                raise Refused(422, "counter", "the counter is not the one in the image's header")
            self._write(address, image)
        return Reply(204)

    def _write(self, address: str, image: Image) -> None:
        try:
            self._archive.write(address, image)
        except InvalidArgument as error:
            raise Refused(422, "image", str(error)) from None

    # -- checks

    def _verify(self, method: str, address: str, environ: Environ, counter: int, digest: bytes) -> None:
        text = environ.get(_variable(wire.SIGNATURE), "")
        try:
            if not _SIGNATURE.fullmatch(text):
                raise ValueError
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(address))
            key.verify(bytes.fromhex(text), wire.signed_message(method, self._server, address, counter, digest))
        except (ValueError, InvalidSignature):
            raise Refused(403, "signature", "the signature is not that of this pad's key for this request") from None

    def _length(self, environ: Environ) -> int:
        text = environ.get("CONTENT_LENGTH", "")
        if not _LENGTH.fullmatch(text):
            raise Refused(411, "length", "the length of the body has to be told before it")
        if int(text) > self._archive.pad_size:
            raise Refused(413, "size", f"an image has at most {self._archive.pad_size} bytes")
        return int(text)

    def _failure(self, error: NetworkError) -> Reply:
        """What went wrong in the archive. Its own words may name paths: they go to the log only."""
        if isinstance(error, StoredConflict):
            stored = {"counter": error.stored.counter, "digest": error.stored.digest.hex()}
            return _json(409, {"error": str(error), "code": "conflict", **stored})
        if isinstance(error, PadNotFound):
            return _json(404, {"error": "no such pad", "code": "pad"})
        _log.error("the archive failed: %s", error)
        if isinstance(error, OutOfSpace):
            return _json(507, {"error": "the server has no room left", "code": "space"})
        if isinstance(error, TransientNetworkError):
            return _json(503, {"error": "the server cannot do this now", "code": "busy"}, ("Retry-After", str(RETRY_SECONDS)))
        return _json(500, {"error": "the server's storage failed", "code": "storage"})


def _variable(header: str) -> str:
    """The WSGI variable of a header."""
    return "HTTP_" + header.upper().replace("-", "_")


def _type(size: int) -> list[tuple[str, str]]:
    return [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))]


def _facts_of(stored: Stored) -> list[tuple[str, str]]:
    return [(wire.COUNTER, str(stored.counter)), (wire.DIGEST, stored.digest.hex())]


def _json(status: int, fields: dict[str, Any], *headers: tuple[str, str]) -> Reply:
    body = json.dumps(fields).encode() + b"\n"
    return Reply(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers], body)


def _allow(method: str, *methods: str) -> None:
    if method not in methods:
        raise Refused(405, "method", f"allowed here: {', '.join(methods)}")


def _counter(environ: Environ) -> int:
    text = environ.get(_variable(wire.COUNTER), "")
    if not _COUNTER.fullmatch(text) or int(text) > wire.MAX_COUNTER:
        raise Refused(400, "counter", f"{wire.COUNTER} has to be a whole number from 1")
    return int(text)


def _digest(environ: Environ) -> bytes:
    text = environ.get(_variable(wire.DIGEST), "")
    if not wire.is_id(text):
        raise Refused(400, "digest", f"{wire.DIGEST} has to be 32 hexadecimal characters")
    return bytes.fromhex(text)


def _receive(environ: Environ, data: memoryview) -> None:
    """Fill ``data`` with the body; ``ClientGone`` when it ends too early."""
    done = 0
    while done < len(data):
        count = environ["wsgi.input"].readinto(data[done:])
        if not count:
            raise ClientGone(errno.ECONNRESET, "the body ends too early")
        done += count
