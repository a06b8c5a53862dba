"""The thread pools of a Store: reservation pool -> ``upload_ready_queue`` -> upload pool; and the download pool.

A stage is a pool that drains a ``queue.Queue``. Whoever puts a unit makes sure a worker is draining, and a worker leaves
when the queue is empty, so an idle Store has no thread that waits for ever and the interpreter can always exit.

Where no thread can be started (the interpreter is shutting down, or a limit of the process) the same units run on the
thread that waits for them: ``help`` is what a calling thread does while it waits. One unit at a time, so it is slower, and
nothing else changes.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from .errors import StoreClosed
from .settings import Settings

T = TypeVar("T")


class Unit(Protocol):
    """One piece of work. It carries names, not data, and answers for its own errors."""

    def run(self) -> None:
        """Do it; must not raise."""


class _Job(Generic[T]):
    """Work that is run once, or cancelled. An executor that can start no thread raises, and has queued the work all the
    same: a thread it has already may take it. So whether anybody does is decided here."""

    def __init__(self, function: Callable[[], T]) -> None:
        self.future: Future[T] = Future()
        self._function = function

    def run(self) -> None:
        """Do it, unless it was cancelled."""
        future, function = self.future, self._function
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)
            if not isinstance(error, Exception):
                raise
        finally:
            del future, function, self  # the error's traceback holds this frame, and the future the error

    def follow(self, queued: Future[None]) -> None:
        """The executor is done with it; cancelled, when it was closed before."""
        if queued.cancelled():
            self.future.cancel()


class _Pool:
    """``threads`` threads, started when first needed."""

    def __init__(self, name: str, threads: int) -> None:
        self._name, self._threads = name, threads
        self._numbers = itertools.count(1)
        self._executor = self._new()
        self._closed = False

    def submit(self, function: Callable[[], T]) -> Future[T] | None:
        """Let a thread run ``function``; None: there is no thread and none can be started, and none will run it."""
        job, executor = _Job(function), self._executor
        try:
            executor.submit(job.run).add_done_callback(job.follow)
        except RuntimeError as error:
            if self._closed:
                raise StoreClosed("the Store is closed") from error
            executor.shutdown(wait=False)  # the job is in its queue, and its count of idle threads will be wrong
            self._executor = self._new()
            return None if job.future.cancel() else job.future
        return job.future

    def close(self) -> None:
        """Start nothing more; what is running ends by itself."""
        self._closed = True
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _new(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, f"anthill-{self._name}", self._name_thread)

    def _name_thread(self) -> None:
        threading.current_thread().name = f"anthill-{self._name}-{next(self._numbers)}"


class Stage:
    """``threads`` workers draining ``queue``. ``_lock`` guards the count of workers, and whether a unit may be left to
    ``help``; that is looked at without it as well, by callers for each event, and locks would slow all threads down."""

    def __init__(self, name: str, threads: int) -> None:
        self.queue: queue.Queue[Unit] = queue.Queue()
        self.threads = threads
        self._pool = _Pool(name, threads)
        self._lock = threading.Lock()
        self._workers = 0
        self._stranded = False  # a unit was queued, and there was no worker

    def put(self, unit: Unit) -> None:
        """Queue ``unit``; never blocks, never runs it. A consumer is started before the unit could wait for one."""
        self.queue.put(unit)
        with self._lock:
            if self._workers < self.threads and self._pool.submit(self._drain) is not None:
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
        self._pool.close()


class Pipeline:
    """All stages of one Store; threads start when first needed."""

    def __init__(self, settings: Settings) -> None:
        self.reservation = Stage("reserve", settings.reserve_threads)
        self.upload = Stage("upload", settings.upload_threads)
        self.upload_ready_queue = self.upload.queue
        self._download = _Pool("download", settings.download_threads)

    def help(self) -> bool:
        """Run one unit of either stage that no thread will run; False when there is none."""
        return self.upload.help() or self.reservation.help()

    def download(self, function: Callable[[], T]) -> Future[T]:
        """Run ``function`` in the download pool, or at once where that has no thread."""
        future = self._download.submit(function)
        if future is None:
            job = _Job(function)
            job.run()
            return job.future
        return future

    def close(self) -> None:
        """Start nothing more; safe to repeat."""
        self.reservation.close()
        self.upload.close()
        self._download.close()
