"""Keeps a network below a rate: a wrapper with the interface of the network inside it.

It stands around the retries: waiting here takes nothing from the time that a call may take, and a repeat is not counted
again. What it lets through is one image or one block at a time, at the network's full speed, and then nothing until the
time of those bytes is over. So the rate holds over several pads, and not within one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime

from ..errors import Interrupted
from ..rates import Timetable
from ..settings import Settings, timetable
from .base import Buffer, Image, Network, Pad, Properties, current_call

Sleep = Callable[[threading.Event, float], object]  # stop event, seconds; returns early when the event is set

_LONGEST_LOOK = 60.0  # seconds between two looks at the clock on the wall: it may be set, and summer time may begin


def _wait_for(stop: threading.Event, seconds: float) -> object:
    return stop.wait(seconds)


class RateLimit:
    """Bytes per second, shared by all threads; ``clock``, ``now`` and ``sleep`` are there for tests."""

    def __init__(
        self,
        table: Timetable,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = datetime.now,
        sleep: Sleep = _wait_for,
    ) -> None:
        self._table, self._clock, self._now, self._sleep = table, clock, now, sleep
        self._lock = threading.Lock()  # guards what follows; nobody sleeps under it
        self._owed = 0.0  # bytes that were let through and whose time is not over
        self._rate, _ = table.at(now())
        self._seen = clock()

    def let_through(self, count: int, stop: threading.Event) -> bool:
        """Return when ``count`` bytes may go; False: ``stop`` was set while they waited."""
        while seconds := self._try(count):
            if stop.is_set():
                return False
            self._sleep(stop, seconds)
        return True

    def correct(self, count: int) -> None:
        """It were ``count`` bytes more, or fewer, than was said."""
        with self._lock:
            self._owed = max(0.0, self._owed + count)

    def _try(self, count: int) -> float:
        """0: they may go, and are owed. Else the seconds after which it is worth trying again."""
        with self._lock:
            elapsed, self._seen = self._clock() - self._seen, self._clock()
            self._owed = 0.0 if self._rate is None else max(0.0, self._owed - elapsed * self._rate)
            self._rate, change = self._table.at(self._now())
            if self._rate is None or not self._owed:
                self._owed = float(count)
                return 0.0
            return min(self._owed / self._rate, change, _LONGEST_LOOK)


class LimitedNetwork:
    """``inner``, with images and blocks let through as ``upload`` and ``download`` allow; None: no limit."""

    def __init__(self, inner: Network, upload: RateLimit | None, download: RateLimit | None) -> None:
        self._inner, self._upload, self._download = inner, upload, download

    @property
    def properties(self) -> Properties:
        """Those of the network inside."""
        return self._inner.properties

    def reserve(self, pad: Pad) -> None:
        """Reserve: no bytes worth counting."""
        self._inner.reserve(pad)

    def write(self, pad: Pad, image: Image) -> None:
        """Write, when the image's bytes may go."""
        if self._upload is not None:
            _wait(self._upload, len(image.data), "write")
        self._inner.write(pad, image)

    def confirm(self, pad: Pad, digest: bytes) -> None:
        """Confirm: no bytes worth counting."""
        self._inner.confirm(pad, digest)

    def read(self, pad: Pad, offset: int = 0, length: int | None = None) -> Buffer:
        """Read, when the bytes asked for may come."""
        if self._download is None:
            return self._inner.read(pad, offset, length)
        asked = self.properties.pad_size if length is None else length
        _wait(self._download, asked, "read")
        data = self._inner.read(pad, offset, length)
        self._download.correct(len(data) - asked)
        return data

    def close(self) -> None:
        """Close the network inside."""
        self._inner.close()


def limited(network: Network, settings: Settings) -> Network:
    """``network`` below the rates in ``settings``; itself where there are none."""
    if settings.limit_upload is None and settings.limit_download is None:
        return network
    return LimitedNetwork(network, _limit(settings.limit_upload), _limit(settings.limit_download))


def _limit(text: str | None) -> RateLimit | None:
    return None if text is None else RateLimit(timetable(text))


def _wait(limit: RateLimit, count: int, operation: str) -> None:
    call = current_call()
    if not limit.let_through(count, call.stop if call is not None else threading.Event()):
        raise Interrupted(f"stopped before the network could {operation} a pad")
