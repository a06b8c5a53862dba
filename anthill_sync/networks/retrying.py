"""Repeats what failed for a passing reason: a wrapper with the interface of the network inside it.

The only place in this package that repeats a network call, and the only user of ``backoff``. Which
call is repeated, and when, is decided by backoff's decorator and three limits of our own: the time
an operation may take, a budget that all threads share, and the stop event of the current call.

backoff would sleep deaf to that event. So the wait happens in its jitter hook, which then returns 0.
A hook cannot refuse the repeat, but it can leave a verdict: the next attempt raises that instead of
calling the network.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import Any, Generic, NamedTuple, TypeVar

from ..errors import Interrupted, NetworkError, TransientNetworkError, TryAgain
from ..settings import Settings
from ..threads import start
from .base import Buffer, Image, Network, Pad, Properties, current_call
from .pacing import PacingGate

Sleep = Callable[[threading.Event, float], object]  # stop event, seconds; returns early when the event is set

_LONGEST_RETRY_AFTER = 120.0  # seconds; a network that asks for more is asked again after this
_FIRST_RETRIES = 100
_RETRIES_PER_OPERATION = 2

T = TypeVar("T")


class RetryBudget:
    """Repeats that all threads together may make: at most 2 for every operation begun, and 100.

    A network that fails now and then is repeated as often as ``attempts`` says; one that fails all
    the time does not get five times the traffic.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _left
        self._left = _FIRST_RETRIES

    def operation_begins(self) -> None:
        """Add what one more operation is worth."""
        with self._lock:
            self._left += _RETRIES_PER_OPERATION

    def take(self) -> bool:
        """Take one repeat; False if none is left."""
        with self._lock:
            taken = self._left > 0
            self._left -= taken
            return taken


class _Policy(NamedTuple):
    """What all operations of one network share."""

    settings: Settings
    budget: RetryBudget
    gate: PacingGate
    sleep: Sleep
    clock: Callable[[], float]  # seconds, never going back
    jitter: Callable[[float], float]


def _wait_for(stop: threading.Event, seconds: float) -> object:
    return stop.wait(seconds)


@cache
def _backoff() -> Any:
    """The library. It loads asyncio, and whoever only lists keys needs neither."""
    import backoff

    return backoff


class _Loader:
    """Loads the library beside the first call, whose answer it is often there before. When that call is over it is there: when
    a repeat is due later there may be no descriptor left to load it with."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the making of _thread
        self._thread: threading.Thread | None = None
        self._loaded = False

    def begin(self) -> None:
        """Load it on a thread of its own, unless it is there or being loaded."""
        if self._loaded:
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._load, name="anthill-load", daemon=True)
                with suppress(TryAgain):
                    start(self._thread)

    def end(self) -> None:
        """Return when it is loaded; raises what keeps it from that."""
        if self._loaded:
            return
        if self._thread is not None and self._thread.ident is not None:
            self._thread.join()
        _backoff()
        self._loaded = True

    def _load(self) -> None:
        with suppress(Exception):  # ``end`` tries again and tells
            _backoff()


def _full_jitter(upper: float) -> float:
    return random.uniform(0, upper)


def repeated(settings: Settings, name: str, address: str, action: Callable[[], T]) -> T:
    """``action``, repeated like the calls of a network, and told of as ``name`` of ``address``: for what has to be asked
    before there is a network."""
    policy = _Policy(settings, RetryBudget(), PacingGate(1), _wait_for, time.monotonic, _full_jitter)
    return _Operation(policy, name, address, action).run(settings.attempts)


class RetryingNetwork:
    """``inner``, with passing failures repeated as ``settings`` say (attempts, seconds, waits).

    An error that leaves it has the number of attempts made in ``context["attempts"]``. Writes that
    are paid are never repeated. ``sleep``, ``clock`` and ``jitter`` are there for tests.
    """

    def __init__(
        self,
        inner: Network,
        settings: Settings,
        *,
        sleep: Sleep = _wait_for,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float], float] = _full_jitter,
    ) -> None:
        self._inner = inner
        shortest, longest = settings.backoff_base / 25, settings.backoff_base * 20  # by default 10 ms and 5 s
        gate = PacingGate(inner.properties.connections, shortest=shortest, longest=longest)
        self._policy = _Policy(settings, RetryBudget(), gate, sleep, clock, jitter)
        self._loader = _Loader()

    @property
    def properties(self) -> Properties:
        """Those of the network inside."""
        return self._inner.properties

    def reserve(self, pad: Pad) -> None:
        """Reserve, repeated."""
        self._run("reserve", pad, partial(self._inner.reserve, pad))

    def write(self, pad: Pad, image: Image) -> None:
        """Write, repeated unless it is paid: the lost answer of a paid write would be paid twice."""
        self._run("write", pad, partial(self._inner.write, pad, image), once=self.properties.write_is_paid)

    def confirm(self, pad: Pad, digest: bytes) -> None:
        """Confirm, repeated."""
        self._run("confirm", pad, partial(self._inner.confirm, pad, digest))

    def read(self, pad: Pad, offset: int = 0, length: int | None = None) -> Buffer:
        """Read, repeated."""
        return self._run("read", pad, partial(self._inner.read, pad, offset, length))

    def close(self) -> None:
        """Close the network inside."""
        self._inner.close()

    def _run(self, name: str, pad: Pad, action: Callable[[], T], once: bool = False) -> T:
        self._loader.begin()
        try:
            return _Operation(self._policy, name, pad.address, action).run(1 if once else self._policy.settings.attempts)
        finally:
            self._loader.end()


def open_retrying(opens: Callable[[], Network], settings: Settings) -> RetryingNetwork:
    """The network that ``opens`` opens; what it asks the other side meanwhile is repeated as later calls are."""
    return RetryingNetwork(repeated(settings, "open", "", opens), settings)


class _Operation(Generic[T]):
    """One network call and its repeats."""

    def __init__(self, policy: _Policy, name: str, address: str, action: Callable[[], T]) -> None:
        self._policy = policy
        self._name = name
        self._address = address
        self._action = action
        self._call = current_call()
        self._stop = self._call.stop if self._call else threading.Event()
        self._deadline = policy.clock() + policy.settings.retry_seconds
        self._attempts = self._refusals = 0
        self._error: TransientNetworkError | None = None  # of the last attempt
        self._verdict: Exception | None = None  # what the next attempt raises instead of calling

    def run(self, attempts: int) -> T:
        self._policy.budget.operation_begins()
        try:
            try:
                return self._attempt()  # nearly every call ends here
            except TransientNetworkError as error:
                return self._repeat(attempts, error)
        except NetworkError as error:
            error.context = {"attempts": self._attempts, **error.context}
            raise

    def _repeat(self, attempts: int, first: TransientNetworkError) -> T:
        """After the ``first`` failure, which counts as one of the attempts."""
        backoff, settings, failed = _backoff(), self._policy.settings, [first]

        def attempt() -> T:
            if failed:
                raise failed.pop()
            return self._attempt()

        repeated: Callable[[Callable[[], T]], Callable[[], T]] = backoff.on_exception(
            backoff.expo,
            TransientNetworkError,
            max_tries=attempts,
            giveup=self._is_final,
            jitter=self._pause,
            logger=None,
            factor=settings.backoff_base,
            max_value=settings.backoff_cap if settings.backoff_base else 0.0,  # 0 doubled never reaches the cap
        )
        return repeated(attempt)()

    def _is_final(self, error: Exception) -> bool:
        """A verdict, or the end of repeats made inside this operation, which are not multiplied."""
        return error is self._verdict or (isinstance(error, NetworkError) and "attempts" in error.context)

    def _attempt(self) -> T:
        if self._verdict is not None:
            raise self._verdict
        try:
            with self._policy.gate.turn(self._stop, self._refusals) as granted:
                if not granted:
                    self._verdict = self._error or Interrupted(f"stopped before the network could {self._name} a pad")
                    raise self._verdict
                self._attempts += 1
                return self._action()
        except TransientNetworkError as error:
            self._error = error
            self._refusals += error.slow_down
            raise

    def _pause(self, upper: float) -> float:
        """Backoff's jitter hook: wait, a random time up to ``upper`` seconds, or leave the verdict."""
        try:
            if not self._wait_for_repeat(upper):
                self._verdict = self._error
        except (TypeError, StopIteration) as error:  # the listener's; to backoff these two have a meaning
            self._verdict = error
        return 0.0

    def _wait_for_repeat(self, upper: float) -> bool:
        """Wait; False if there shall be no repeat."""
        seconds = self._seconds(upper)
        late = self._policy.clock() + seconds >= self._deadline
        if self._stop.is_set() or late or not self._policy.budget.take():
            return False
        if self._call is not None:
            at_once = self._policy.gate.limit
            self._call.on_retry(self._name, self._address, self._attempts, seconds, str(self._error), at_once)
        self._policy.sleep(self._stop, seconds)
        return not self._stop.is_set()

    def _seconds(self, upper: float) -> float:
        asked = self._error.retry_after if self._error is not None else None
        return max(self._policy.jitter(upper), min(asked or 0.0, _LONGEST_RETRY_AFTER))
