"""Pads, images and network wrappers for tests. The wrappers have the interface of a network."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TypeVar

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anthill_sync.image import Header
from anthill_sync.networks.base import Buffer, Image, Network, Pad, Properties

PATIENCE = 20.0  # seconds after which a test that hangs fails instead; nothing waits this long when all is well
ANY = "*"  # an operation's name that means all of them

T = TypeVar("T")


# -- pads and images


@dataclass(frozen=True)
class TestPad:
    """A pad with a real key, so that it also serves networks that check signatures."""

    __test__ = False  # the name is not a test's

    address: str
    key: Ed25519PrivateKey

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message)


@lru_cache(maxsize=4096)
def make_pad(number: int) -> TestPad:
    """The pad of this number: always the same."""
    key = Ed25519PrivateKey.from_private_bytes(blake3(b"pad %d" % number).digest())
    return TestPad(key.public_key().public_bytes_raw().hex(), key)


def make_image(data: Buffer, counter: int = 1) -> Image:
    """An image with its true digest."""
    return Image(data, counter, blake3(data).digest(length=16))


def make_pad_image(counter: int, contents: bytes) -> Image:
    """An image with the header of a pad, and ``contents`` behind it."""
    return make_image(Header(counter, len(contents), 0).pack() + contents, counter)


# -- threads and time


def run_threads(jobs: Iterable[Callable[[], T]], threads: int = 20) -> list[T]:
    """The results of all jobs, in order, run on real threads; the first failure is raised."""
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(job) for job in jobs]
        return [future.result(timeout=PATIENCE) for future in futures]


class FakeClock:
    """Time that passes only in ``sleep``, for every thread at once. ``slept`` holds each sleep's seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def sleep(self, stop: threading.Event, seconds: float) -> None:
        """In the place of ``Event.wait(stop, seconds)``."""
        with self._lock:
            self.slept.append(seconds)
            self.now += seconds


# -- wrappers


class Wrapper:
    """Passes every call through ``_around``: the one method a wrapper has to write."""

    def __init__(self, inner: Network) -> None:
        self.inner = inner

    @property
    def properties(self) -> Properties:
        return self.inner.properties

    def reserve(self, pad: Pad) -> None:
        self._around("reserve", pad, partial(self.inner.reserve, pad))

    def write(self, pad: Pad, image: Image) -> None:
        self._around("write", pad, partial(self.inner.write, pad, image), image=image)

    def confirm(self, pad: Pad, digest: bytes) -> None:
        self._around("confirm", pad, partial(self.inner.confirm, pad, digest))

    def read(self, pad: Pad, offset: int = 0, length: int | None = None) -> Buffer:
        return self._around("read", pad, partial(self.inner.read, pad, offset, length))

    def close(self) -> None:
        self.inner.close()

    def _around(self, operation: str, pad: Pad, action: Callable[[], T], image: Image | None = None) -> T:
        return action()


class SlowNetwork(Wrapper):
    """Adds a latency to each operation, in seconds, before it reaches ``inner``."""

    def __init__(
        self,
        inner: Network,
        *,
        reserve: float = 0.0,
        write: float = 0.0,
        confirm: float = 0.0,
        read: float = 0.0,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        super().__init__(inner)
        self._seconds = {"reserve": reserve, "write": write, "confirm": confirm, "read": read}
        self._sleep = sleep

    def _around(self, operation: str, pad: Pad, action: Callable[[], T], image: Image | None = None) -> T:
        self._sleep(self._seconds[operation])
        return action()


@dataclass(frozen=True)
class Seen:
    """One call of a FaultyNetwork, as its hooks see it."""

    operation: str  # reserve, write, confirm or read
    address: str
    number: int  # of the calls of this operation, from 1
    image: Image | None = None  # of a write


Hook = Callable[[Seen], object]


class Gate:
    """A hook that holds every call that reaches it until ``open``; it never blocks for longer than PATIENCE."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.held: list[Seen] = []  # calls that arrived, also those let through since
        self._arrived = threading.Condition()

    def __call__(self, seen: Seen) -> None:
        with self._arrived:
            self.held.append(seen)
            self._arrived.notify_all()
        if not self.opened.wait(PATIENCE):
            raise AssertionError(f"nobody opened the gate for {seen.operation} {seen.address}")

    def wait_for(self, calls: int) -> None:
        """Return once this many calls have arrived."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.held) >= calls, PATIENCE):
                raise AssertionError(f"{len(self.held)} calls reached the gate, not {calls}")

    def open(self) -> None:
        """Let all calls through, those held and those to come."""
        self.opened.set()

    def open_after(self, calls: int) -> None:
        """Open once this many calls have arrived."""
        self.wait_for(calls)
        self.open()


class FaultyNetwork(Wrapper):
    """Counts calls, and lets a test fail or hold them.

    A hook gets a ``Seen`` and may raise, block, or look around; hooks run in the order they were
    added, on the calling thread, under no lock. One that raises *before* the call keeps it from
    ``inner``; one that raises *after* it is an answer lost on the way: the network has done the work.
    """

    def __init__(self, inner: Network) -> None:
        super().__init__(inner)
        self.calls: Counter[str] = Counter()  # begun, by operation
        self.done: Counter[str] = Counter()  # returned to the caller, by operation
        self.running: Counter[str] = Counter()  # by operation
        self.peak: Counter[str] = Counter()  # most that ran at once, by operation
        self.log: list[Seen] = []  # calls in the order they began, without images
        self.closed = 0  # times close was called
        self._hooks: list[tuple[str, str, Hook]] = []  # when, operation, hook
        self._lock = threading.Lock()  # guards all of the above

    def before(self, operation: str, hook: Hook) -> None:
        """Run ``hook`` before each call of ``operation`` ("*": of all)."""
        self._add("before", operation, hook)

    def after(self, operation: str, hook: Hook) -> None:
        """Run ``hook`` after each call of ``operation`` that ``inner`` has done."""
        self._add("after", operation, hook)

    def fail(
        self, operation: str, error: Callable[[], BaseException], *, times: int = 1, skip: int = 0, lost: bool = False
    ) -> None:
        """Raise ``error()``, new each time, in the next ``times`` calls after ``skip`` good ones.

        ``lost``: after ``inner`` has done the work, so that only the answer is missing.
        """
        self._add("after" if lost else "before", operation, _Failing(error, times, skip))

    def hold(self, operation: str, *, after: bool = False) -> Gate:
        """A gate that holds calls of ``operation`` from now on, before or after ``inner`` does them."""
        gate = Gate()
        self._add("after" if after else "before", operation, gate)
        return gate

    def clear_hooks(self) -> None:
        """Forget all hooks; counts stay."""
        with self._lock:
            self._hooks.clear()

    def addresses(self, operation: str) -> list[str]:
        """Addresses of all calls of ``operation``, in the order they began."""
        with self._lock:
            return [seen.address for seen in self.log if seen.operation == operation]

    def close(self) -> None:
        with self._lock:
            self.closed += 1
        super().close()

    def _add(self, when: str, operation: str, hook: Hook) -> None:
        if operation not in (ANY, "reserve", "write", "confirm", "read"):
            raise ValueError(f"networks have no operation {operation!r}")
        with self._lock:
            self._hooks.append((when, operation, hook))

    def _around(self, operation: str, pad: Pad, action: Callable[[], T], image: Image | None = None) -> T:
        seen = self._begin(operation, pad, image)
        try:
            self._run_hooks("before", seen)
            result = action()
            self._run_hooks("after", seen)
        finally:
            with self._lock:
                self.running[operation] -= 1
        with self._lock:
            self.done[operation] += 1
        return result

    def _begin(self, operation: str, pad: Pad, image: Image | None) -> Seen:
        with self._lock:
            self.calls[operation] += 1
            self.running[operation] += 1
            self.peak[operation] = max(self.peak[operation], self.running[operation])
            seen = Seen(operation, pad.address, self.calls[operation], image)
            self.log.append(replace(seen, image=None))  # the buffer is the caller's
        return seen

    def _run_hooks(self, when: str, seen: Seen) -> None:
        with self._lock:
            hooks = [hook for at, operation, hook in self._hooks if at == when and operation in (ANY, seen.operation)]
        for hook in hooks:
            hook(seen)


class _Failing:
    """A hook that raises in some of its calls."""

    def __init__(self, error: Callable[[], BaseException], times: int, skip: int) -> None:
        self._error = error
        self._first, self._last = skip + 1, skip + times
        self._calls = 0
        self._lock = threading.Lock()  # guards _calls

    def __call__(self, seen: Seen) -> None:
        with self._lock:
            self._calls += 1
            due = self._first <= self._calls <= self._last
        if due:
            raise self._error()
