"""The interface every network has. Facts are in ``properties``, never found by ``isinstance``.

A network stores pads: named records of at most ``properties.pad_size`` bytes, always replaced
whole. It never retries (``retrying.RetryingNetwork`` does), never keeps a caller's buffer after the
call, may be called from any number of threads, and translates foreign exceptions once, at its
border, to ``TransientNetworkError`` or a ``PermanentNetworkError``. An exception it does not know
is a bug and is raised as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Properties:
    """Facts about a network, probed when it is opened."""

    scheme: str  # dir, memory, http, s3, ...
    pad_size: int  # largest image, bytes
    rewritable: bool  # a pad can be replaced; False: write-once
    compares_counters: bool  # the network itself refuses an image whose counter does not rise
    reservation_is_paid: bool
    write_is_paid: bool
    connections: int  # calls that may run at once
    server: str | None = None  # who the other side said it is when the store was made; None: networks without a name
    shows_reservations: bool = True  # a reserved, empty pad is there; False: reserving asks nobody, the first write creates
    eventual: bool = False  # its replicas may differ for a while: see ``any_replica``
    keeps_digests: bool = False  # ``confirm`` need not read an image to tell which one it is
    abilities: tuple[str, ...] = ()  # what an object store was found to be able to do


class Pad(Protocol):
    """One pad as a network needs it: its name, and its owner's signature where the network asks."""

    @property
    def address(self) -> str:
        """Hex of the pad's Ed25519 public key, 64 characters."""

    def sign(self, message: bytes) -> bytes:
        """Ed25519 signature of ``message``, 64 bytes."""


@dataclass(frozen=True)
class Image:
    """The whole bytes of one pad, ready to be sent as often as needed."""

    data: Buffer  # header, payload, table; valid until the call returns
    counter: int  # the pad's version; 1 for its first image
    digest: bytes  # BLAKE3 of ``data``, first 16 bytes


class Network(Protocol):
    """Where pads live."""

    @property
    def properties(self) -> Properties:
        """Facts that do not change while the network is open."""

    def reserve(self, pad: Pad) -> None:
        """Make ``pad`` ours: afterwards it reads as zero bytes.

        Safe to repeat, from any thread. A pad that is reserved and still empty is left as it is; a
        pad that holds an image raises ``PadConflict``. After a timeout the pad is reserved or not;
        repeating tells. Where ``properties.shows_reservations`` is False this does nothing: the pad
        is missing until its first write, and that tells whether it holds an image.
        """

    def write(self, pad: Pad, image: Image) -> None:
        """Replace the pad's image, whole and durably.

        Safe to repeat with the same image, from any thread; the buffer is free again when the call
        returns. After a failure the pad holds the old image or the new one, never a mixture. A pad
        that was never reserved is created. Raises ``PadConflict`` when the first image (counter 1)
        would replace another one, when another image is there whose counter is not below (where the
        network can look and replace in one step), or when a network that compares counters finds
        another state; a repeat after a lost answer is resolved by reading back, never reported as a
        conflict unread. Larger than ``properties.pad_size``: ``PermanentNetworkError``.
        """

    def confirm(self, pad: Pad, digest: bytes) -> None:
        """Return once the network is known to hold, durably, the image with this digest.

        Costs nothing where ``write``'s answer is proof of it. Safe to repeat. A missing pad raises
        ``PadNotFound``, another image ``PadConflict``.
        """

    def read(self, pad: Pad, offset: int = 0, length: int | None = None) -> Buffer:
        """The image's bytes from ``offset``, at most ``length`` of them (None: to its end).

        What is returned is the caller's and never changes; it may be a view of memory that a library
        allocated, which copying 4 MiB out of would cost as long as opening them. A range beyond the image is cut, so
        fewer bytes than asked for are no error; a reserved, empty pad reads as no bytes. A missing
        pad raises ``PadNotFound``. Changes nothing.
        """

    def close(self) -> None:
        """Release connections; calls that are running in other threads fail soon after.

        Safe to repeat. A closed network may not be used again.
        """


@dataclass(frozen=True)
class Call:
    """On whose behalf the current thread calls a network: what stops its waits, who hears of retries."""

    stop: threading.Event
    on_retry: Callable[[str, str, int, float, str, int], None]  # operation, address, attempt, seconds, error, calls at once


_ANY_REPLICA: ContextVar[bool] = ContextVar("anthill_any_replica", default=False)


def any_replica_will_do() -> bool:
    """Whether this thread is inside ``any_replica``."""
    return _ANY_REPLICA.get()


@contextmanager
def any_replica() -> Iterator[None]:
    """Reads of this thread inside the ``with`` may be answered by a replica that has an older image, or none, which is
    faster: for whoever can tell by what is read, and then asks again outside. Only where ``properties.eventual``."""
    token = _ANY_REPLICA.set(True)
    try:
        yield
    finally:
        _ANY_REPLICA.reset(token)


_CALL: ContextVar[Call | None] = ContextVar("anthill_call", default=None)


def current_call() -> Call | None:
    """The innermost ``calling`` of this thread, or None."""
    return _CALL.get()


@contextmanager
def calling(call: Call) -> Iterator[None]:
    """Network calls of this thread inside the ``with`` are made on behalf of ``call``."""
    token = _CALL.set(call)
    try:
        yield
    finally:
        _CALL.reset(token)
