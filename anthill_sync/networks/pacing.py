"""How many calls may run at once, and how soon one after the other: less when the network asks for less, then step by step
back to where it was."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import TransientNetworkError

_STOP_POLL = 0.25  # seconds between looks at the stop event while a call waits for its turn
_RECENT = 2.0  # seconds: successes that tell how much the network takes
_HASTE = 20.0  # seconds: a pace of so many would be given up at once
_WEIGHT = 0.02  # of the last call in the share of refusals
_TOLERATED = 0.1  # share of refusals: a call has 5 attempts, of which then one in 100,000 calls needs more
_URGENT = 2  # refusals of one call, from which on others let it go first
_OUTAGE = 5  # refusals without a success between them: not a matter of pace, so all calls take their share of them

Wait = Callable[[threading.Condition, float], object]  # held condition, seconds


class Pace:
    """The time between the starts of two calls: none, until the network refuses one.

    When more than a tenth of the calls are refused, it becomes twice what one success took of late: half of what the
    network showed that it takes. Each success shortens it, by a hundredth or by what a pace of seconds needs not to last for
    minutes, and at twice the rate of before it is gone. Without it one thread alone may ask a fast server far more often
    than that allows, and each refusal costs one of a call's few attempts. Not thread-safe.
    """

    def __init__(self, shortest: float, longest: float) -> None:
        self.interval = 0.0  # seconds
        self._shortest, self._longest = shortest, longest
        self._gone_at = 0.0  # an interval below this is none
        self._started = self._next = 0.0  # when the last call did, when the next one may
        self._successes: deque[float] = deque(maxlen=32)  # when the last ones were
        self._share = 0.0  # of refusals among the last calls, 0 to 1

    def left(self, now: float, refusals: int = 0) -> float:
        """Seconds until a call may start that was refused so often before: each time it leaves the network alone for as long
        as one success takes."""
        alone = min(self._longest, refusals * max(self.interval, self._each(now))) if refusals else 0.0
        return max(0.0, self._next - now, self._started + alone - now)

    def start(self, now: float) -> None:
        """A call starts."""
        self._started, self._next = now, max(now, self._next) + self.interval

    def refused(self, now: float, *, first: bool = True) -> None:
        """The network wants less. ``first``: of the calls that ran when the last such answer came, this one was none."""
        self._share += _WEIGHT * (1 - self._share)
        if first and self._share > _TOLERATED:
            self._slow_down(now)

    def _slow_down(self, now: float) -> None:
        self.interval = min(self._longest, max(self._shortest, 2 * self._each(now)))
        self._gone_at = self.interval / 4
        self._next = now + self.interval

    def _each(self, now: float) -> float:
        """Seconds that one success took of late."""
        recent = [when for when in self._successes if now - when < _RECENT]
        return (now - recent[0]) / len(recent) if recent else self.interval

    def succeeded(self, now: float) -> None:
        """The network took one."""
        self._successes.append(now)
        self._share -= _WEIGHT * self._share
        self.interval *= 1 - min(0.5, max(0.01, self.interval / _HASTE))
        if self.interval < self._gone_at:
            self.interval = 0.0


class PacingGate:
    """One limit on running calls, shared by all threads, between 1 and ``most``; and one ``Pace``, between ``shortest`` and
    ``longest`` seconds once there is one.

    Additive increase, multiplicative decrease. A call that fails with ``slow_down`` halves the
    number of calls that ran beside it; of the calls that ran at that moment only one does so, or a
    single burst of refusals would bring the limit to 1. As many successes as the limit raise it by one.
    A call that was refused twice goes before the others, or a pace that is a little too fast would use up the attempts of some
    call in a thousand. A turn ends with its call, and every call ends, so no wait for a turn needs a limit of its own.
    """

    def __init__(
        self,
        most: int,
        *,
        shortest: float = 0.01,
        longest: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        wait: Wait = threading.Condition.wait,
    ) -> None:
        self._most = most
        self._limit = most
        self._running = 0
        self._successes = 0  # since the limit last changed
        self._cuts = 0  # how often the limit was halved
        self._urgent: list[int] = []  # refusals of each such call that waits
        self._in_vain = 0  # refusals since the last success
        self._pace = Pace(shortest, longest)
        self._clock, self._wait = clock, wait
        self._freed = threading.Condition()  # guards all of the above; no call is made under it

    @property
    def limit(self) -> int:
        """Calls that may run at once now."""
        with self._freed:
            return self._limit

    @contextmanager
    def turn(self, stop: threading.Event, refusals: int = 0) -> Iterator[bool]:
        """Run one call inside the ``with``, once fewer than ``limit`` run; False: ``stop`` was set while it waited.
        ``refusals``: how often the network refused this call before."""
        cuts = self._enter(stop, refusals)
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

    def _enter(self, stop: threading.Event, refusals: int) -> int | None:
        with self._freed, self._waiting(refusals):
            while (seconds := self._left(refusals)) > 0:
                if stop.is_set():
                    return None
                self._wait(self._freed, min(seconds, _STOP_POLL))
            self._running += 1
            self._pace.start(self._clock())
            return self._cuts

    @contextmanager
    def _waiting(self, refusals: int) -> Iterator[None]:
        if refusals < _URGENT:
            yield
            return
        self._urgent.append(refusals)
        try:
            yield
        finally:
            self._urgent.remove(refusals)

    def _left(self, refusals: int) -> float:
        """Seconds until the next look whether a call may start; 0: it may."""
        others_first = self._in_vain < _OUTAGE and refusals < max(self._urgent, default=0)
        if self._running >= self._limit or others_first:
            return _STOP_POLL
        return self._pace.left(self._clock(), refusals)

    def _leave(self, cuts: int, succeeded: bool, refused: bool) -> None:
        with self._freed:
            if refused:
                self._refused(first=cuts == self._cuts)
            elif succeeded:
                self._grow()
            self._running -= 1
            self._freed.notify(2)  # the turn that ended, and perhaps one that was added

    def _refused(self, *, first: bool) -> None:
        self._in_vain += 1
        self._pace.refused(self._clock(), first=first)
        if first:
            self._limit = max(1, min(self._limit, self._running) // 2)
            self._cuts += 1
            self._successes = 0

    def _grow(self) -> None:
        self._in_vain = 0
        self._pace.succeeded(self._clock())
        self._successes += 1
        if self._limit < self._most and self._successes >= self._limit:
            self._limit += 1
            self._successes = 0
