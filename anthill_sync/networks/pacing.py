"""How many calls may run at once: halved when the network asks for less, grown back step by step."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import TransientNetworkError

_STOP_POLL = 0.25  # seconds between looks at the stop event while a call waits for its turn


class PacingGate:
    """One limit on running calls, shared by all threads; between 1 and ``most``.

    Additive increase, multiplicative decrease. A call that fails with ``slow_down`` halves the
    number of calls that ran beside it; of the calls that ran at that moment only one does so, or a
    single burst of refusals would bring the limit to 1. As many successes as the limit raise it by one.
    A turn ends with its call, and every call ends, so no wait for a turn needs a limit of its own.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = most
        self._running = 0
        self._successes = 0  # since the limit last changed
        self._cuts = 0  # how often the limit was halved
        self._freed = threading.Condition()  # guards all of the above; no call is made under it

    @property
    def limit(self) -> int:
        """Calls that may run at once now."""
        with self._freed:
            return self._limit

    @contextmanager
    def turn(self, stop: threading.Event) -> Iterator[bool]:
        """Run one call inside the ``with``, once fewer than ``limit`` run; False: ``stop`` was set while it waited."""
        cuts = self._enter(stop)
        if cuts is None:
            yield False
            return
        succeeded = refused = False
        try:
            yield True
            succeeded = True
        except TransientNetworkError as error:
            refused = error.slow_down
            raise
        finally:
            self._leave(cuts, succeeded, refused)

    def _enter(self, stop: threading.Event) -> int | None:
        with self._freed:
            while self._running >= self._limit:
                if stop.is_set():
                    return None
                self._freed.wait(_STOP_POLL)
            self._running += 1
            return self._cuts

    def _leave(self, cuts: int, succeeded: bool, refused: bool) -> None:
        with self._freed:
            if refused and cuts == self._cuts:
                self._halve()
            elif succeeded and self._limit < self._most:
                self._grow()
            self._running -= 1
            self._freed.notify(2)  # the turn that ended, and perhaps one that was added

    def _halve(self) -> None:
        self._limit = max(1, min(self._limit, self._running) // 2)
        self._cuts += 1
        self._successes = 0

    def _grow(self) -> None:
        self._successes += 1
        if self._successes >= self._limit:
            self._limit += 1
            self._successes = 0
