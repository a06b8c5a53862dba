"""Both directions of one client's connection, each step with a limit of its own.

A limit is for a whole step (the headers, a body, an answer), not for each wait, so a client that sends a byte now and
then is cut off as one that sends none.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress

from .settings import KIB

HEADER_SECONDS = 10.0  # for a request's line and headers, from its first byte; and for the TLS handshake
BODY_SECONDS = 30.0  # for a body or an answer, and
BODY_RATE = 64 * KIB  # for each so many bytes of it one second more
_STEP = 8 * KIB  # bytes asked for while headers are read


def step_seconds(size: int) -> float:
    """Seconds for a body or an answer of ``size`` bytes."""
    return BODY_SECONDS + size / BODY_RATE


class _Limited:
    """``sock`` with a time at which the current step has to be over."""

    def __init__(self, sock: socket.socket, clock: Callable[[], float] = time.monotonic) -> None:
        self._sock = sock
        self._clock = clock
        self._ends = clock() + HEADER_SECONDS
        self.closed = False

    def begin(self, seconds: float) -> None:
        """The next step may take so long."""
        self._ends = self._clock() + seconds

    def _arm(self) -> None:
        left = self._ends - self._clock()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)

    def close(self) -> None:
        self.closed = True


class Reader(_Limited):
    """What cheroot calls ``rfile``. Keeps what came with the headers; bodies go straight into the caller's buffer."""

    def __init__(self, sock: socket.socket, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(sock, clock)
        self._held = bytearray()

    def has_data(self) -> bool:
        """Whether more of the client's next request is here already."""
        return bool(self._held) or bool(getattr(self._sock, "pending", int)())

    def readline(self, limit: int) -> bytes:
        """Up to and with the next line feed, at most ``limit`` bytes, fewer at the end."""
        while (end := self._held.find(b"\n", 0, limit)) < 0 and len(self._held) < limit:
            self._arm()
            data = self._sock.recv(_STEP)
            if not data:
                break
            self._held += data
        count = limit if end < 0 else end + 1
        line = bytes(self._held[:count])
        del self._held[:count]
        return line

    def readinto(self, target: memoryview) -> int:
        """Some bytes, at least one; 0 at the end."""
        if self._held:
            count = min(len(self._held), len(target))
            target[:count] = self._held[:count]
            del self._held[:count]
            return count
        self._arm()
        return self._sock.recv_into(target)


class Writer(_Limited):
    """What cheroot calls ``wfile``: nothing is copied, nothing is kept."""

    def write(self, data: bytes) -> int:
        """All of ``data``, as one step."""
        self.begin(step_seconds(len(data)))
        view = memoryview(data)
        while view:
            self._arm()
            view = view[self._sock.send(view) :]
        return len(data)


class Body:
    """The ``remaining`` bytes of one request behind its headers."""

    def __init__(self, reader: Reader, length: int) -> None:
        self._reader = reader
        self.remaining = length

    def readinto(self, target: memoryview) -> int:
        """Some bytes of the body, at least one; 0 at its end or when the client is gone."""
        if not self.remaining or not target:
            return 0
        count = self._reader.readinto(target[: self.remaining])
        self.remaining -= count
        return count

    def read(self, size: int) -> bytes:
        """Throw ``size`` bytes away: cheroot reads what a refusal left of a body, so that the client reads the answer."""
        waste = memoryview(bytearray(64 * KIB))
        with suppress(OSError):
            while self.readinto(waste):
                pass
        return b""
