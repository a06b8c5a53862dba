"""What a hostile, broken or overrun server says in the place of an answer, and how a command has to end."""

from __future__ import annotations

import email.utils
import gzip
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from anthill_sync.settings import MIB

from .proxy import Saying, whole

PAUSE = 0.02  # seconds between two bytes of a peer that drips
CHUNKED = "Transfer-Encoding: chunked"


@dataclass(frozen=True)
class Hostility:
    """``says``: None for a fault that the proxy knows by its name. ``code``: of a command that reads or writes images,
    when this never ends; ``init``: of ``anthill init``. ``passes``: whoever asks again at once gets over it."""

    name: str
    says: Saying | None
    code: int = 75
    init: int = 75
    passes: bool = True


def hostilities(server: str, elsewhere: str) -> list[Hostility]:
    """All of them. ``server``: the id of the true one; ``elsewhere``: a URL that nobody may ever ask."""
    ours = f"Anthill-Digest: {'0' * 32}\r\nAnthill-Server: {server}"  # of an image that nobody wrote
    return [*refusals(ours), *stalls(ours), *floods(ours), *broken(ours), *lies(ours, elsewhere)]


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")


def endless(first: bytes, part: bytes) -> Callable[[], Iterable[bytes]]:
    def parts() -> Iterator[bytes]:
        yield first
        while True:
            yield part

    return parts


def dripping(first: bytes, rest: bytes) -> Callable[[], Iterable[bytes]]:
    """A byte now and then, for ever."""

    def parts() -> Iterator[bytes]:
        pause = threading.Event()
        yield first
        while True:
            for byte in rest:
                yield bytes([byte])
                pause.wait(PAUSE)

    return parts


def refusal(status: str, *lines: str, error: object = "said by a test") -> bytes:
    return whole(json.dumps({"error": error, "code": "test"}).encode(), status, *lines)


# -- overrun


def date(seconds: float) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


def waits() -> dict[str, tuple[str, ...]]:
    """Headers of a refusal, by what they ask for."""
    asked = {
        "nothing": "0",
        "a second": "1",
        "two minutes": "120",
        "years": "999999999",
        "ages": "9" * 40,
        "a huge number": "9" * 5000,
        "less than nothing": "-1",
        "a fraction": "0.5",
        "a word": "soon",
        "an empty word": "",
        "a date to come": date(3600),
        "a date gone by": date(-3600),
        "no date": "Fri, 99 Foo 2026 99:99:99 GMT",
        "a date without a zone": "Fri, 1 Jan 2100 00:00:00",
        "the year 1": "Mon, 01 Jan 0001 00:00:00 GMT",
    }
    lines = {name: (f"Retry-After: {text}",) for name, text in asked.items()}
    return {**lines, "no time": (), "two times": ("Retry-After: 0", "Retry-After: 120")}


LONG_WAITS = ("a second", "two minutes", "years", "a date to come", "a date without a zone")


def refusals(ours: str) -> Iterator[Hostility]:
    for status in ("429 Too Many Requests", "503 Service Unavailable"):
        for name, lines in waits().items():
            yield Hostility(f"{status[:3]}, asks for {name}", whole(b"", status, *lines), passes=name not in LONG_WAITS)
    for status in ("500 Oops", "502 Bad Gateway", "504 Gateway Timeout", "408 Request Timeout"):
        yield Hostility(status[:3], refusal(status, ours))
    codes = {"400 No": 76, "401 No": 77, "403 No": 77, "407 No": 77, "409 No": 76, "413 No": 69, "418 No": 76, "507 Full": 73}
    for status, code in codes.items():
        yield Hostility(status[:3], refusal(status, ours), code, 76, passes=False)


def stalls(ours: str) -> Iterator[Hostility]:
    yield Hostility("silent", None)
    yield Hostility("drips its headers", dripping(b"HTTP/1.1 200 OK\r\nX: ", b"x"))
    yield Hostility("drips its body", dripping(head(ours, "Content-Length: 9999"), b"x"))
    yield Hostility("drips an answer without length", dripping(head(ours), b"x"))
    yield Hostility("drips chunks", dripping(head(ours, CHUNKED), b"1\r\nx\r\n"))
    yield Hostility("drips trailers", dripping(head(ours, CHUNKED) + b"0\r\n", b"X: y\r\n"))
    yield Hostility("continues for ever", endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100))


# -- broken


def floods(ours: str) -> Iterator[Hostility]:
    """More than was asked for: never taken in, never unpacked."""
    part = bytes(MIB)
    chunk = b"100000\r\n" + part + b"\r\n"
    bomb = gzip.compress(bytes(64 * MIB))
    says: dict[str, Saying] = {
        "a body without end": endless(head(ours), part),
        "a body as long as told, far too long": endless(head(ours, f"Content-Length: {10**12}"), part),
        "a length of 5000 digits": endless(head(ours, f"Content-Length: {'9' * 5000}"), part),
        "a length below 0": endless(head(ours, "Content-Length: -1"), part),
        "chunks without end": endless(head(ours, CHUNKED), chunk),
        "chunks without end, and a length": endless(head(ours, CHUNKED, "Content-Length: 9"), chunk),
        "chunks in a code, and a length": endless(
            head(ours, "Transfer-Encoding: gzip, chunked", "Content-Length: 999999"), chunk
        ),
        "a compressed bomb": whole(bomb, "200 OK", ours, "Content-Encoding: gzip"),
        "a bomb twice compressed": whole(gzip.compress(bomb), "200 OK", ours, "Content-Encoding: gzip, gzip"),
    }
    for name, said in says.items():
        yield Hostility(name, said, 76, 76, passes=False)


def broken(ours: str) -> Iterator[Hostility]:
    """No HTTP, or not all of it: may pass."""
    says: dict[str, Saying] = {
        "nothing at all": b"",
        "no HTTP": b"\x00\x01\x02 what do you want?\r\n\r\n",
        "half a status": b"HTTP/1.1 2",
        "a status without a number": b"HTTP/1.1 OK\r\n\r\n",
        "a status without end": endless(b"HTTP/1.1 200 ", b"x" * 65536),
        "a header without end": endless(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65536),
        "headers without end": endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100),
        "half of its headers": head("Content-Length: 0", ours)[:-9],
        "less than it says": head(ours, "Content-Length: 5000") + bytes(4999),
        "two lengths": head(ours, "Content-Length: 5", "Content-Length: 7") + b"1234567",
        "a chunk without end": endless(head(ours, CHUNKED), b"0" * 65536),
        "a chunk of no size": head(ours, CHUNKED) + b"many\r\nx\r\n",
        "half a chunk": head(ours, CHUNKED) + b"ff\r\nx",
    }
    for name, said in says.items():
        init = 76 if name == "half of its headers" else 75  # what is left of it looks like somebody else's answer
        yield Hostility(name, said, init=init)


# -- false


def lies(ours: str, elsewhere: str) -> Iterator[Hostility]:
    """Answers that are whole, and not those of our server, or not to what was asked."""
    page = b"<html><body>Welcome to the hotel's network</body></html>"
    deep = b"[" * 60_000
    yield Hostility("a web page", whole(page, "200 OK", "Content-Type: text/html"), init=76)
    yield Hostility("a web page instead of a failure", whole(page, "502 Bad Gateway", "Content-Type: text/html"))
    says: dict[str, Saying] = {
        "another server": whole(b"", "204 No Content", "Anthill-Server: " + "f" * 32),
        "another part": whole(bytes(100), "206 Partial Content", ours, "Content-Range: bytes 7-106/*"),
        "a redirect": whole(b"", "302 Found", f"Location: {elsewhere}"),
        "a redirect for good, with a body without end": endless(head(f"Location: {elsewhere}", status="308 Go"), bytes(MIB)),
        "a redirect to itself": whole(b"", "307 Again", ours, "Location: /v1/status"),
        "a proxy of its own": whole(b"", "305 Use Proxy", ours, f"Location: {elsewhere}"),
        "a deep error": whole(deep, "400 No", ours),
        "an error without end": whole(json.dumps({"error": "x" * 60_000}).encode(), "400 No", ours),
        "an error that is no text": refusal("400 No", ours, error=[[["\x1b[2J"]]]),
        "an error that drives terminals": refusal("400 No", ours, error="\x1b[2J\x07"),
    }
    for name, said in says.items():
        yield Hostility(name, said, 76, 76, passes=False)
