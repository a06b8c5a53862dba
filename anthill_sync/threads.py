"""Threads: pools that do with fewer than they ask for, and what is done, or said, when there is none at all."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from .errors import StoreClosed, TryAgain

T = TypeVar("T")


class Pool(ThreadPoolExecutor):
    """At most ``threads`` threads, named ``anthill-NAME-N``; started when first needed, kept until it is shut down.

    Where the system gives no more threads, those there are do the work. ``submit`` raises ``TryAgain`` only while there
    is none, and has forgotten the work then.
    """

    def __init__(self, name: str, threads: int) -> None:
        numbers = itertools.count(1)

        def name_thread() -> None:
            threading.current_thread().name = f"anthill-{name}-{next(numbers)}"

        self._closed = False  # by us: the interpreter, when it shuts down, makes an executor look shut down too
        super().__init__(threads, thread_name_prefix=f"anthill-{name}", initializer=name_thread)

    def _adjust_thread_count(self) -> None:  # called by submit once the work is queued
        try:
            super()._adjust_thread_count()
        except RuntimeError as error:
            if not self._threads:
                self._work_queue.get_nowait()  # submit's lock is held: it is this work, which a later thread must not find
                raise no_thread(error) from error

    def offer(self, function: Callable[[], T]) -> Future[T] | None:
        """As ``submit``; None: there is no thread and none can be started, so nobody will run it. An interpreter that is
        shutting down starts none either."""
        try:
            return self.submit(function)
        except TryAgain:
            return None
        except RuntimeError as error:
            if self._closed:
                raise StoreClosed("the Store is closed") from error
            return None

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Start nothing more; what is running ends by itself."""
        self._closed = True
        super().shutdown(wait=wait, cancel_futures=cancel_futures)


def run_now(function: Callable[[], T]) -> Future[T]:
    """Run ``function`` on this thread, as a thread of a pool would."""
    try:
        return _over(function(), None)
    except Exception as error:  # noqa: BLE001 - the future tells it
        return _over(None, error)


def _over(value: Any, error: Exception | None) -> Future[Any]:
    """A future that is over. Made here, or the error's traceback would hold the future, and the future the error."""
    future: Future[Any] = Future()
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
    return future


def start(*threads: threading.Thread) -> list[threading.Thread]:
    """Start as many of them as the system gives; ``TryAgain`` when it gives none."""
    started: list[threading.Thread] = []
    for thread in threads:
        try:
            thread.start()
        except RuntimeError as error:
            if not started:
                raise no_thread(error) from error
            break
        started.append(thread)
    return started


def no_thread(error: RuntimeError) -> TryAgain:
    """The system has none left, for this user or in all."""
    return TryAgain(f"{error}: too many are running, or too little memory is left; try again later, or see ulimit -u")
