"""The thread pools of a Store: reservation pool -> ``upload_ready_queue`` -> upload pool; and the download pool.

A stage is a pool that drains a ``queue.Queue``. Whoever puts a unit makes sure a worker is draining, and a worker leaves
when the queue is empty, so an idle Store has no thread that waits for ever and the interpreter can always exit.

Where no thread can be started (the interpreter is shutting down, or a limit of the process) the same units run on the
thread that waits for them: ``help`` is what a calling thread does while it waits. One unit at a time, so it is slower, and
nothing else changes.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Protocol, TypeVar

from .networks.base import Call, calling
from .settings import DOWNLOAD_WINDOW, Settings
from .threads import Pool, run_now

S = TypeVar("S")
T = TypeVar("T")


class Unit(Protocol):
    """One piece of work. It carries names, not data, and answers for its own errors."""

    def run(self) -> None:
        """Do it; must not raise."""


class Stage:
    """``threads`` workers draining ``queue``. ``_lock`` guards the count of workers, and whether a unit may be left to
    ``help``; that is looked at without it as well, by callers for each event, and locks would slow all threads down."""

    def __init__(self, name: str, threads: int) -> None:
        self.queue: queue.Queue[Unit] = queue.Queue()
        self.threads = threads
        self._pool = Pool(name, threads)
        self._lock = threading.Lock()
        self._workers = 0
        self._stranded = False  # a unit was queued, and there was no worker

    def put(self, unit: Unit) -> None:
        """Queue ``unit``; never blocks, never runs it. A consumer is started before the unit could wait for one."""
        self.queue.put(unit)
        with self._lock:
            if self._workers < self.threads and self._pool.offer(self._drain) is not None:
                self._workers += 1  # not before: an interrupt, and the next unit tries again
            self._stranded = not self._workers

    def help(self) -> bool:
        """Run one unit that has no worker to run it; False when there is none."""
        if not self._stranded:
            return False
        with self._lock:
            self._stranded = not self._workers and not self.queue.empty()
            unit = self.queue.get_nowait() if self._stranded else None
        if unit is not None:
            unit.run()
        return unit is not None

    def _drain(self) -> None:
        while (unit := self._next()) is not None:
            unit.run()

    def _next(self) -> Unit | None:
        """The next unit, or None when this worker has left: decided under the lock, so no unit is left behind."""
        with self._lock:
            try:
                return self.queue.get_nowait()
            except queue.Empty:
                self._workers -= 1
                return None

    def close(self) -> None:
        """Start nothing more; running units end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Pipeline:
    """All stages of one Store; threads start when first needed."""

    def __init__(self, settings: Settings) -> None:
        self.reservation = Stage("reserve", settings.reserve_threads)
        self.upload = Stage("upload", settings.upload_threads)
        self.upload_ready_queue = self.upload.queue
        self._download = Pool("download", settings.download_threads)

    def help(self) -> bool:
        """Run one unit of either stage that no thread will run; False when there is none."""
        return self.upload.help() or self.reservation.help()

    def download(self, function: Callable[[], T]) -> Future[T]:
        """Run ``function`` in the download pool, or at once where that has no thread."""
        future = self._download.offer(function)
        return run_now(function) if future is None else future

    def ahead(self, items: Iterable[S], run: Callable[[S], T]) -> Iterator[T]:
        """``run(item)`` for every item, perhaps endlessly many, in the download pool, ``DOWNLOAD_WINDOW`` of them ahead of
        the caller, who gets the results in order."""
        call = Call(threading.Event(), lambda *_: None)
        running: deque[Future[T]] = deque()
        try:
            for item in items:
                if len(running) == DOWNLOAD_WINDOW:
                    yield running.popleft().result()
                running.append(self._submit(item, run, call))
            while running:
                yield running.popleft().result()
        finally:
            call.stop.set()
            for future in running:
                if not future.cancel():
                    future.exception()

    def _submit(self, item: S, run: Callable[[S], T], call: Call) -> Future[T]:
        def called() -> T:
            with calling(call):
                return run(item)

        return self.download(called)

    def close(self) -> None:
        """Start nothing more; safe to repeat."""
        self.reservation.close()
        self.upload.close()
        self._download.shutdown(wait=False, cancel_futures=True)
