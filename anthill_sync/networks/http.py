"""Pads on a pad server (``anthill serve``), over HTTP.

Every request that changes something is signed with the pad's key. The server's id is learned when a store is made and
pinned: every answer has to carry it. Nothing is repeated here, but every call may be: what a lost answer left open is
resolved by reading back.
"""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit

from ..errors import (
    AccessDenied,
    ConfigurationError,
    NetworkError,
    OutOfSpace,
    PadConflict,
    PadNotFound,
    PermanentNetworkError,
    ProtocolError,
    TransientNetworkError,
)
from ..settings import KIB, MAX_PAD_SIZE, MIN_PAD_SIZE, Settings
from . import wire
from .base import Buffer, Image, Pad, Properties
from .local import check_fits, is_loopback
from .transport import Answer, Transport

_WORDS = 64 * KIB  # bytes of an answer that is not an image: facts, or an error
_SLOW_DOWN = (429, 503)
_PASSING = (408, 500, 502, 504)  # 502 and 504: a proxy that cannot reach the server now
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(?:\d{1,19}|\*)")


def open_http(url: str, *, settings: Settings, facts: Mapping[str, Any]) -> HttpNetwork:
    """The network of the pad server at ``url``; the server is asked for its facts unless ``facts`` have them."""
    parts = urlsplit(url)
    if parts.scheme == "http" and not settings.allow_plain_http and not is_loopback(parts.hostname or ""):
        raise ConfigurationError(
            f"http:// to another machine ({parts.hostname}) is neither private nor protected against changes on the way: "
            "use https://, or allow it with the setting allow_plain_http=true"
        )
    connections = settings.reserve_threads + settings.upload_threads + settings.download_threads
    transport = Transport(url, settings, connections)
    try:
        known = wire.Facts(facts["server"], facts["pad_size"]) if facts.get("server") else ask_facts(transport)
    except BaseException:
        transport.close()
        raise
    return HttpNetwork(transport, known, connections)


def ask_facts(transport: Transport) -> wire.Facts:
    """What the server says about itself; ``ProtocolError`` where that is no pad server of our version."""
    answer = transport.send("GET", wire.STATUS_PATH, {}, limit=_WORDS)
    if answer.status in (*_SLOW_DOWN, *_PASSING):
        raise _failure(answer, transport.base, None)
    fields = _fields(answer)
    version, server, pad_size = fields.get("version"), fields.get("server"), fields.get("pad_size")
    if answer.status != 200 or fields.get("service") != wire.SERVICE:
        raise ProtocolError(f"{transport.base} is not a pad server (it answers {answer.status} to {wire.STATUS_PATH})")
    if version != wire.VERSION:
        other = str(version)[:20] if isinstance(version, int) else "unknown"
        raise ProtocolError(f"the pad server at {transport.base} has version {other}; this program speaks {wire.VERSION}")
    named = isinstance(server, str) and wire.is_id(server)
    if not named or not isinstance(pad_size, int) or not MIN_PAD_SIZE <= pad_size <= MAX_PAD_SIZE:
        raise ProtocolError(f"the pad server at {transport.base} tells impossible facts about itself")
    return wire.Facts(str(server), pad_size)


class HttpNetwork:
    """Pads on the server that ``facts`` name. ``_written`` and ``_unanswered`` are used by one thread per pad, as
    the pads themselves are."""

    def __init__(self, transport: Transport, facts: wire.Facts, connections: int) -> None:
        self._transport = transport
        self._facts = facts
        self._written: dict[str, bytes] = {}  # address -> digest, between a write and its confirm
        self._unanswered: dict[str, bytes] = {}  # address -> digest of a write whose answer was lost
        self._properties = Properties(
            scheme=urlsplit(transport.base).scheme,
            pad_size=facts.pad_size,
            rewritable=True,
            compares_counters=True,
            reservation_is_paid=False,
            write_is_paid=False,
            connections=connections,
            server=facts.server,
        )

    @property
    def properties(self) -> Properties:
        """Facts that do not change while the network is open."""
        return self._properties

    def reserve(self, pad: Pad) -> None:
        """One signed request; the server answers a repeat as it did the first time."""
        answer = self._call("POST", pad, wire.signature_headers(pad, "POST", self._facts.server))
        if answer.status not in (200, 201):
            self._fail(answer, pad)

    def write(self, pad: Pad, image: Image) -> None:
        """Send the image; after a lost answer, ask first whether it has arrived."""
        check_fits(pad, image, self._facts.pad_size)
        self._written.pop(pad.address, None)
        doubtful = self._unanswered.get(pad.address) == image.digest
        arrived = doubtful and self._stored_digest(pad) == image.digest
        self._unanswered.pop(pad.address, None)  # once: where one request a second is taken, a second one would always be refused
        if not arrived:
            self._send(pad, image)
        self._written[pad.address] = image.digest

    def confirm(self, pad: Pad, digest: bytes) -> None:
        """Free of cost once after each write, whose answer proved it; otherwise the server is asked."""
        if self._written.pop(pad.address, None) == digest:
            return
        found = self._stored_digest(pad)
        if found is None:
            raise PadNotFound(f"pad {pad.address} was never reserved or written", pad=pad.address)
        if found != digest:
            raise PadConflict(f"pad {pad.address} holds another image than the one written", pad=pad.address)

    def read(self, pad: Pad, offset: int = 0, length: int | None = None) -> bytes:
        """The image, or a range of it, in one request."""
        size = self._facts.pad_size
        if (offset, length) == (0, None):
            return self._image(self._call("GET", pad, limit=size, expected=size), pad)
        if offset >= size:
            offset, length = size - 1, 0  # so that a missing pad is told from a range beyond its end
        count = max(1, size - offset if length is None else min(length, size - offset))
        headers = {"Range": f"bytes={offset}-{offset + count - 1}"}
        data = self._part(self._call("GET", pad, headers, limit=size, expected=count), pad, offset)
        return data if length is None else data[:length]

    def close(self) -> None:
        """Cut the connections of running calls, close the others."""
        self._transport.close()

    # -- requests

    def _send(self, pad: Pad, image: Image) -> None:
        headers = wire.signature_headers(pad, "PUT", self._facts.server, image.counter, image.digest)
        try:
            answer = self._call("PUT", pad, headers, image.data)
        except TransientNetworkError as error:
            if not error.slow_down:  # which says that it was not done
                self._unanswered[pad.address] = image.digest
            raise
        if answer.status == 409 and self._stored_digest(pad) == image.digest:
            return
        if answer.status != 204:
            self._fail(answer, pad)

    def _stored_digest(self, pad: Pad) -> bytes | None:
        """Digest of the image the server holds, durably; None where it knows no such pad."""
        answer = self._call("HEAD", pad)
        if answer.status == 404:
            return None
        if answer.status != 200:
            self._fail(answer, pad)
        digest = answer.headers.get(wire.DIGEST, "")
        if not wire.is_id(digest):
            raise ProtocolError(f"{self._transport.base} does not tell the digest of a pad", pad=pad.address)
        return bytes.fromhex(digest)

    def _call(
        self,
        method: str,
        pad: Pad,
        headers: Mapping[str, str] | None = None,
        body: Buffer | None = None,
        limit: int = _WORDS,
        expected: int = 0,
    ) -> Answer:
        """One answer of our server; what proxies say in its place is a failure that may pass."""
        path = wire.PADS_PATH + pad.address
        answer = self._transport.send(method, path, headers or {}, body, limit=max(limit, _WORDS), expected=expected)
        if answer.status in (*_SLOW_DOWN, *_PASSING):
            self._fail(answer, pad)
        self._check_server(answer, pad)
        return answer

    def _check_server(self, answer: Answer, pad: Pad) -> None:
        """Every answer names its server, last of its headers: without the whole name the rest may be missing too."""
        if 300 <= answer.status < 400 or answer.status == 407:
            self._fail(answer, pad)
        server = answer.headers.get(wire.SERVER, "")
        if not wire.is_id(server):
            where = self._transport.base
            raise TransientNetworkError(f"{where} gave an answer that is not our server's, or not whole", pad=pad.address)
        if server != self._facts.server:
            raise ProtocolError(
                f"another pad server answers at {self._transport.base} (its id is {server}, this store was made on "
                f"{self._facts.server}); nothing was written",
                pad=pad.address,
            )

    # -- answers

    def _image(self, answer: Answer, pad: Pad) -> bytes:
        if answer.status != 200:
            self._fail(answer, pad)
        return answer.body

    def _part(self, answer: Answer, pad: Pad, offset: int) -> bytes:
        if answer.status == 416:
            return b""
        if answer.status != 206:  # a server may leave ranges alone
            return self._image(answer, pad)[offset:]
        match = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != offset or int(match[2]) + 1 - offset != len(answer.body):
            raise ProtocolError(f"{self._transport.base} sends another range than asked for", pad=pad.address)
        return answer.body

    def _fail(self, answer: Answer, pad: Pad) -> NoReturn:
        raise _failure(answer, self._transport.base, pad.address)


def _failure(answer: Answer, base: str, pad: str | None) -> NetworkError:
    """What an answer that is no success means."""
    status, said = answer.status, _said(answer)
    if status in _SLOW_DOWN:
        return TransientNetworkError(f"{base} asks for patience ({said})", _retry_after(answer), slow_down=True, pad=pad)
    if status in _PASSING or (status, _text(answer, "code")) == (422, "digest"):  # damaged on the way
        return TransientNetworkError(f"{base} failed ({said})", _retry_after(answer), pad=pad)
    if 300 <= status < 400:
        return ProtocolError(f"{base} redirects, which is not followed: name the server's own URL", pad=pad)
    return _KINDS.get(status, ProtocolError)(f"{base} refuses: {said}", pad=pad)


_KINDS: dict[int, type[NetworkError]] = {
    401: AccessDenied,
    403: AccessDenied,
    404: PadNotFound,
    407: AccessDenied,
    409: PadConflict,
    413: PermanentNetworkError,
    507: OutOfSpace,
}  # every other number: ProtocolError


def _fields(answer: Answer) -> dict[str, Any]:
    """The JSON object that the answer is; none where it is something else, however deep it is nested."""
    try:
        fields = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _text(answer: Answer, name: str) -> str:
    text = _fields(answer).get(name)
    return text if isinstance(text, str) else ""


def _said(answer: Answer) -> str:
    """Status and the server's own words, bounded and printable."""
    words = _text(answer, "error")[:200]
    return f"{answer.status} {words}".rstrip() if words.isprintable() else str(answer.status)


def _retry_after(answer: Answer) -> float | None:
    """Seconds, from either form of the header; None where there is none."""
    text = answer.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time()) if text else None
    except (TypeError, ValueError, OverflowError):
        return None
