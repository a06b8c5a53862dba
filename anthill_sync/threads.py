"""Threads: pools that do with fewer than they ask for, and what it is called when there is none at all."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

from .errors import TryAgain


class Pool(ThreadPoolExecutor):
    """At most ``threads`` threads, named ``anthill-NAME-N``; started when first needed, kept until it is shut down.

    Where the system gives no more threads, those there are do the work. ``submit`` raises ``TryAgain`` only while there
    is none.
    """

    def __init__(self, name: str, threads: int) -> None:
        numbers = itertools.count(1)

        def name_thread() -> None:
            threading.current_thread().name = f"anthill-{name}-{next(numbers)}"

        super().__init__(threads, thread_name_prefix=f"anthill-{name}", initializer=name_thread)

    def _adjust_thread_count(self) -> None:  # called by submit once the work is queued
        try:
            super()._adjust_thread_count()
        except RuntimeError as error:
            if not self._threads:
                raise no_thread(error) from error


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
