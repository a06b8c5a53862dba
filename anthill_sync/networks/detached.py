"""Calls of a library that cannot be interrupted, made on threads that can be left behind.

Whoever waits for one hears of a signal, and of ``close``, at once; the call itself ends by its own deadline. The threads
are daemons, so a process may end while one still runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from ..errors import TransientNetworkError

T = TypeVar("T")
_Job = tuple[Callable[[], Any], "Future[Any]"]


class Detached:
    """``_lock`` guards everything here; no call is made, and nobody is woken, under it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[_Job | None]] = []  # of threads that wait for work
        self._running: set[Future[Any]] = set()
        self._closed = False

    def run(self, action: Callable[[], T]) -> T:
        """What ``action`` returns or raises; ``TransientNetworkError`` once closed."""
        future: Future[T] = Future()
        queue = self._begin(future)
        queue.put((action, future))
        try:
            return future.result()
        finally:
            with self._lock:
                self._running.discard(future)

    def close(self) -> None:
        """Leave running calls behind, end idle threads; safe to repeat."""
        with self._lock:
            self._closed = True
            running, idle = list(self._running), self._idle
            self._idle = []
        for future in running:
            with suppress(InvalidStateError):  # it has just ended by itself
                future.set_exception(_closed())
        for queue in idle:
            queue.put(None)

    def _begin(self, future: Future[Any]) -> SimpleQueue[_Job | None]:
        """The queue of an idle thread, or of a new one."""
        with self._lock:
            if self._closed:
                raise _closed()
            self._running.add(future)
            if self._idle:
                return self._idle.pop()
        queue: SimpleQueue[_Job | None] = SimpleQueue()
        threading.Thread(target=self._work, args=(queue,), name="anthill-objects", daemon=True).start()
        return queue

    def _work(self, queue: SimpleQueue[_Job | None]) -> None:
        while (job := queue.get()) is not None:
            action, future = job
            try:
                result, error = action(), None
            except BaseException as raised:  # noqa: BLE001 - whoever waits gets it
                result, error = None, raised
            with self._lock:
                over = self._closed
                if not over:
                    self._idle.append(queue)  # first, so that who is woken now finds this thread
            with suppress(InvalidStateError):  # left behind
                future.set_result(result) if error is None else future.set_exception(error)
            if over:
                return


def _closed() -> TransientNetworkError:
    return TransientNetworkError("the connection to the object store was closed")
