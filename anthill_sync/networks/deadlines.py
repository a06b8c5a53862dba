"""Ends network calls from outside, by shutting their sockets down: the only thing that stops a peer that sends a byte
now and then, and a call that another thread has to be rid of.

One thread watches all calls of a transport. It starts with the first call and ends with ``close``.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from ..errors import TryAgain
from ..threads import start


class Connection(Protocol):
    """What a call is made over."""

    sock: socket.socket | None


class Call:
    """One exchange with the server and the time it may take."""

    def __init__(self, seconds: float, ends: float) -> None:
        self.seconds = seconds
        self.ends = ends
        self.cut = False  # ended from outside
        self.connection: Connection | None = None
        self.sock: socket.socket | None = None  # kept: http.client forgets it when the answer ends with the connection


class Watchdog:
    """``_changed`` guards everything here; sockets are shut down under it, so a call that is over keeps its socket."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._calls: set[Call] = set()
        self._users: dict[int, Call] = {}  # id of a connection -> the call that uses it now
        self._thread: threading.Thread | None = None
        self.closed = False

    @contextmanager
    def watching(self, seconds: float) -> Iterator[Call]:
        """A call that has ``seconds`` for all of its steps together."""
        call = Call(seconds, self._clock() + seconds)
        with self._changed:
            call.cut = self.closed
            self._calls.add(call)
            self._start()
            self._changed.notify()
        try:
            yield call
        finally:
            with self._changed:
                self._calls.discard(call)
                if call.connection is not None and self._users.get(id(call.connection)) is call:
                    del self._users[id(call.connection)]

    def attach(self, call: Call, connection: Connection) -> None:
        """``call`` goes over ``connection`` from now on; once more when it is connected, because a call that was cut
        before had no socket then."""
        with self._changed:
            call.connection = connection
            call.sock = connection.sock
            self._users[id(connection)] = call
            if call.cut:
                self._cut(call)

    def cut_overdue(self, now: float) -> float | None:
        """End the calls whose time is over; seconds until the next one is due, None: there is none."""
        with self._changed:
            for call in [call for call in self._calls if call.ends <= now and not call.cut]:
                self._cut(call)
            waiting = [call.ends - now for call in self._calls if not call.cut]
            return min(waiting, default=None)

    def close(self) -> None:
        """End all calls, and the thread; safe to repeat."""
        with self._changed:
            self.closed = True
            for call in self._calls:
                self._cut(call)
            self._changed.notify_all()

    def _cut(self, call: Call) -> None:
        call.cut = True
        if call.sock is None or self._users.get(id(call.connection)) is not call:
            return
        with suppress(OSError):  # shut down already, or in the middle of its handshake, which has a limit of its own
            socket.socket.shutdown(call.sock, socket.SHUT_RDWR)  # not ssl's: that pulls TLS from under its reader

    def _start(self) -> None:
        if self._thread is None and not self.closed:
            with suppress(TryAgain):  # no thread can be started now: the call has its socket's own time-outs only
                (self._thread,) = start(threading.Thread(target=self._run, name="anthill-deadlines", daemon=True))

    def _run(self) -> None:
        while True:
            with self._changed:  # reentrant: a Condition's lock is an RLock
                wait = self.cut_overdue(self._clock())
                if self.closed:
                    return
                self._changed.wait(wait)
