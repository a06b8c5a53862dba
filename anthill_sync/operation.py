"""One running call that writes: its events, its counts, its first failure, and when it is over."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .errors import AnthillError, Interrupted, NestedMutation, OutOfTime, PadLimitExceeded, PutFailed
from .events import (
    Event,
    OnEvent,
    ReservationProgress,
    ReservingScratchpads,
    RetryScheduled,
    ScratchpadCommitComplete,
    StartingUpload,
    StoreComplete,
    UploadProgress,
)
from .networks.base import Call

GRACE_SECONDS = 4.0  # what a stopped operation's running calls get before their connections are closed: the whole takes < 5
CLOSED_SECONDS = 0.5  # and then, to notice that their connections are gone
SETTLE_SECONDS = 0.2  # for queued work of a stopped operation to be dropped, which takes no time unless it was lost
STOP_POLL_SECONDS = 0.1  # between two looks at several operations' stop events
WAKE_SECONDS = 1.0  # longest wait of the calling thread between two looks


SkipSource = Callable[[str, AnthillError], object]
Completed = tuple[str, int, int]  # key, bytes, pads


class Operation:
    """Shared by the calling thread and every worker that serves it. ``lock`` guards the counts and ``failure``; no
    I/O, callback or other lock is taken under it. Events reach the caller through an unbounded queue."""

    def __init__(
        self,
        on_event: OnEvent | None = None,
        max_pads: int | None = None,
        skip_source: SkipSource | None = None,
        ends: float | None = None,
    ) -> None:
        self.max_pads = max_pads
        self.ends = ends  # on the monotonic clock: when nothing new may start any more; None: never
        self.reserves_ahead = False  # may have a pad reserved that others will need: its caller counts neither pads nor time
        self.skip_source = skip_source  # told of a source that failed; None: the operation stops
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.failure: BaseException | None = None
        self.call = Call(self.stop, self._retry_scheduled)
        self.started = time.monotonic()
        self.requested = 0  # pads asked for
        self.reserved = 0
        self.written = 0  # pads committed
        self.planned = 0  # pads to commit, as far as known
        self.bytes_sent = 0  # bytes of images
        self.total_bytes: int | None = 0  # plaintext bytes
        self.progress = 0  # plaintext bytes that need no more work
        self.backlog: deque[Any] = deque()  # uploads with chunks not queued yet; under the memory map's lock
        self.queued = 0  # of its windowed units; under the memory map's lock
        self.help: Callable[[], bool] = lambda: False  # what the calling thread does before it waits; False: nothing to do
        self._on_event = on_event
        self._spaces: set[object] = set()  # shared pads that are counted in ``planned``
        self._events: queue.SimpleQueue[Sequence[Event]] = queue.SimpleQueue()  # an empty one only wakes the caller
        self._outstanding = 0
        self._running = 0
        self._uploading = False

    # -- what workers say

    def work_begins(self) -> None:
        """A worker has taken up a piece of this operation. It looks at ``stop`` only after this, so that whoever stops
        the operation and then sees no running work knows that none will begin."""
        with self.lock:
            self._running += 1

    def work_ends(self) -> None:
        """And has let go of it."""
        with self.lock:
            self._running -= 1
        if self.stop.is_set():
            self._events.put(())

    @contextmanager
    def working(self) -> Iterator[None]:
        """Both."""
        self.work_begins()
        try:
            yield
        finally:
            self.work_ends()

    def enter(self, count: int = 1) -> None:
        """``count`` more pieces of work belong to this operation."""
        with self.lock:
            self._outstanding += count

    def leave(self, count: int = 1) -> None:
        """``count`` pieces of work are over; the last one wakes the caller."""
        with self.lock:
            self._outstanding -= count
            over = self._outstanding == 0
        if over:
            self._events.put(())

    @property
    def outstanding(self) -> int:
        """Pieces of work that are queued or running."""
        return self._outstanding

    def fail(self, error: BaseException) -> None:
        """The first failure wins; nothing new starts for this operation."""
        with self.lock:
            if self.failure is None:
                self.failure = error
        self.stop.set()
        self._events.put(())

    def is_over(self) -> bool:
        """True when nothing new may start: stopped, or its time has just run out."""
        if self.ends is not None and time.monotonic() >= self.ends and not self.stop.is_set():
            self.fail(OutOfTime("the time it may take is over", step="time limit", resume=True))
        return self.stop.is_set()

    def expect_pads(self, count: int) -> None:
        """``count`` more images will be committed."""
        with self.lock:
            self.planned += count

    def expect(self, size: int | None, pads: int, space: object | None) -> None:
        """``size`` more plaintext bytes (None: nobody knows how many), ``pads`` more images, and the one of this shared pad
        unless that is expected already."""
        with self.lock:
            self.total_bytes = None if size is None or self.total_bytes is None else self.total_bytes + size
            self.planned += pads
            if space is not None and space not in self._spaces:
                self._spaces.add(space)
                self.planned += 1

    def requesting(self, count: int) -> None:
        """``count`` pads are being reserved."""
        with self.lock:
            self.requested += count
            self._emit(ReservingScratchpads(count))

    def pad_reserved(self) -> None:
        with self.lock:
            self.reserved += 1
            self._emit(ReservationProgress(self.reserved, self.requested))

    def upload_starting(self) -> None:
        with self.lock:
            if not self._uploading:
                self._uploading = True
                self._emit(StartingUpload(self.total_bytes))

    def transferred(self, plaintext: int, image: int = 0) -> None:
        """``plaintext`` bytes of values need no more work; ``image`` bytes were sent for them."""
        with self.lock:
            self.bytes_sent += image
            self.progress += plaintext
            if plaintext:
                self._emit(UploadProgress(self.progress, self.total_bytes))

    def resent(self, plaintext: int) -> None:
        """``plaintext`` bytes that had counted as unchanged are sent after all: the total rises."""
        with self.lock:
            if self.total_bytes is not None:
                self.total_bytes += plaintext

    def pad_committed(self) -> None:
        with self.lock:
            self.written += 1
            self.planned = max(self.planned, self.written)
            self._emit(ScratchpadCommitComplete(self.written, self.planned))

    def completed(self, values: Sequence[Completed]) -> None:
        """These values are published. There may be very many: their events are queued, and wake the caller, together."""
        seconds = time.monotonic() - self.started
        self._emit(*[StoreComplete(*value, seconds) for value in values] if self._on_event is not None else ())

    def _retry_scheduled(self, operation: str, pad: str, attempt: int, wait: float, error: str, at_once: int) -> None:
        self._emit(RetryScheduled(operation, pad, attempt, wait, error, at_once))

    def _emit(self, *events: Event) -> None:
        if self._on_event is not None:
            self._events.put(events)

    # -- the calling thread

    def listen(self, on_event: OnEvent) -> None:
        """Deliver events to ``on_event`` from now on."""
        self._on_event = on_event

    def deliver(self) -> None:
        """Hand over what has happened so far, without waiting."""
        while True:
            try:
                self._hand_over(self._events.get_nowait())
            except queue.Empty:
                return

    def deliver_now(self, event: Event) -> None:
        """Hand over an event that the calling thread itself has caused."""
        self.deliver()
        self._hand_over([event])

    def wait_for(self, ready: Callable[[], bool], condition: threading.Condition) -> None:
        """Deliver events until ``ready`` or stopped; ``condition`` is notified when ``ready`` may have changed."""
        while not self.is_over():
            self.deliver()
            with condition:
                if ready():
                    return
            if not self.help():
                with condition:
                    condition.wait_for(ready, timeout=0.1)

    def wait(self, on_stop: Callable[[], None]) -> None:
        """Deliver events until all work is over; ``on_stop`` is called when the operation has failed, and again while work
        is left and nothing happens: a worker that had looked at ``stop`` just before may queue something just after."""
        told = False
        while self._outstanding:
            if self.is_over() and not told:
                told = True
                on_stop()
                continue
            if self.help():
                self.deliver()
                continue
            try:
                self._hand_over(self._events.get(timeout=WAKE_SECONDS))
            except queue.Empty:
                told = False
        self.deliver()

    def drain(self, seconds: float) -> bool:
        """After a stop: wait until running work is over, at most ``seconds``; False when it is not. What is still queued
        does nothing when its turn comes. Counting only what runs makes this right even when the calling thread was
        interrupted in the middle of queueing something."""
        self._await(lambda: not self._running, seconds)
        self._await(lambda: not self._outstanding, SETTLE_SECONDS)
        return not self._running

    def _await(self, over: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not over() and (left := deadline - time.monotonic()) > 0:
            try:
                self._events.get(timeout=min(WAKE_SECONDS, left))
            except queue.Empty:
                continue

    def _hand_over(self, events: Sequence[Event]) -> None:
        if self._on_event is not None:
            for event in events:
                self._on_event(event)


class _AllStopped(threading.Event):
    """Set when every one of several operations is stopped: what they share goes on for the others."""

    def __init__(self, operations: list[Operation]) -> None:
        super().__init__()
        self._operations = operations

    def is_set(self) -> bool:
        return all(operation.stop.is_set() for operation in self._operations)

    def wait(self, timeout: float | None = None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = STOP_POLL_SECONDS if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return False
            super().wait(min(left, STOP_POLL_SECONDS))
        return True


def joint_call(operations: list[Operation]) -> Call:
    """On behalf of all of these operations."""
    if len(operations) == 1:
        return operations[0].call

    def on_retry(operation: str, pad: str, attempt: int, wait: float, error: str, at_once: int) -> None:
        for each in operations:
            each.call.on_retry(operation, pad, attempt, wait, error, at_once)

    return Call(_AllStopped(operations), on_retry)


def describe_failure(error: BaseException, *, step: str, key: str | None = None, pad: str | None = None) -> BaseException:
    """``error`` as the ``PutFailed`` that names key, pad, step, attempts and cause; what is not ours stays as it is."""
    if not isinstance(error, AnthillError) or isinstance(error, (PutFailed, PadLimitExceeded, Interrupted, NestedMutation)):
        return error
    attempts, step = error.context.get("attempts", 1), error.context.get("step", step)
    where = "".join([f" of {key!r}" if key else "", f" at pad {pad[:16]}..." if pad else ""])
    tries = f" after {attempts} attempts" if attempts > 1 else ""
    failed = PutFailed(f"{step}{where} failed{tries}: {error}", error.exit_code, key=key, pad=pad, step=step, attempts=attempts)
    failed.__cause__ = error
    return failed
