"""One lock per key, for as long as somebody holds or wants it: mutations of one key keep their order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class KeyLocks:
    """``_lock`` guards the table only and is never held while waiting for a key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, tuple[threading.RLock, int]] = {}  # key -> lock, holders and waiters

    def hold(self, keys: Iterable[str], act: Callable[[], T]) -> T:
        """What ``act`` returns, called while all these keys are held, taken in byte order, so that two mutations never wait for
        each other. No context manager: an interrupt that left one suspended would keep the keys."""
        entered: list[str] = []
        held: list[threading.RLock] = []
        try:
            for key in sorted(set(keys)):
                held.append(self._enter(key))  # an interrupt before the next line leaves an entry behind, and nothing held
                entered.append(key)
                held[-1].acquire()
            return act()
        finally:
            with suppress(IndexError, RuntimeError):  # not ours: interrupted before it was taken, as only such a lock can tell
                held.pop().release()
            while held:
                held.pop().release()
            self._leave(entered)

    def _enter(self, key: str) -> threading.RLock:
        with self._lock:
            lock, count = self._locks.get(key) or (threading.RLock(), 0)
            self._locks[key] = (lock, count + 1)
            return lock

    def _leave(self, keys: list[str]) -> None:
        with self._lock:
            for key in keys:
                lock, count = self._locks[key]
                if count == 1:
                    del self._locks[key]
                else:
                    self._locks[key] = (lock, count - 1)
