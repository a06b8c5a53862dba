"""Signals of the command line. The library installs no handlers; only the program does.

The first SIGINT, SIGTERM or SIGHUP raises ``Stopped`` in the main thread, so everything that runs
cleans up as for Ctrl-C. More of them are ignored while that takes up to five seconds (a service
manager sends SIGHUP right after SIGTERM, people press Ctrl-C twice), and end the process at once
after that. Signals that were ignored at start, as under nohup, stay ignored.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from typing_extensions import Self

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_SECONDS = 5.0  # for cleaning up; P8 of the promises
_UNNOTICED_SECONDS = 0.05  # until the main thread is taken to wait for a lock, and sent the signal again


class Stopped(KeyboardInterrupt):
    """A signal asks this process to end."""


class Signals:
    """Handlers for the time of one command; ``received`` is the first signal's number, or None."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.received: int | None = None
        self._since = 0.0
        self._held = 0  # depth of ``deferred``
        self._waiting = False  # a signal that came meanwhile has not been raised yet
        self._clock = clock
        self._before: dict[int, Any] = {}
        self._waker: _Waker | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in HANDLED:
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = signal.signal(number, self.handle)
            if self._before:
                self._waker = _Waker(self._before.keys(), lambda: self.received is not None)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._held += 1  # from here on a signal is remembered, and raises no more
        if self._waker is not None:
            self._waker.close()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """What the interpreter calls in the main thread."""
        if self.received is None:
            self.received, self._since = number, self._clock()
            self._waiting = self._held > 0
            if not self._waiting:
                raise Stopped
        elif self._clock() - self._since > GRACE_SECONDS:
            die(number)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """A signal inside the ``with`` raises at its end: half a drawing would leave the cursor anywhere."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._waiting and not self._held:
            self._waiting = False
            raise Stopped


class _Waker:
    """Sends the first signal to the main thread again until it is noticed there, from a thread of its own.

    A signal interrupts a wait for a lock only when it comes to the main thread while that waits: one that another
    thread received, or that came just before the wait began, would be noticed when the wait ends by itself.
    """

    def __init__(self, numbers: Collection[int], noticed: Callable[[], bool]) -> None:
        self._numbers, self._noticed = numbers, noticed
        self._closed = threading.Event()
        self._arrived, self._announced = os.pipe()
        os.set_blocking(self._announced, False)
        self._before = signal.set_wakeup_fd(self._announced, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="anthill-signals", daemon=True)
        with contextlib.suppress(RuntimeError):  # no thread to be had: signals work as in any Python program
            self._thread.start()

    def _watch(self) -> None:
        while number := os.read(self._arrived, 1):
            while number[0] in self._numbers and not self._closed.wait(_UNNOTICED_SECONDS) and not self._noticed():
                signal.pthread_kill(threading.main_thread().ident or 0, number[0])

    def close(self) -> None:
        """Watch no more; the thread has ended when this returns."""
        signal.set_wakeup_fd(self._before)
        self._closed.set()
        os.close(self._announced)
        if self._thread.ident is not None:
            self._thread.join()
        os.close(self._arrived)


def die(number: int) -> NoReturn:
    """End this process by the signal itself, so that a shell's loop stops too."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # reached only where the signal is blocked


def name_of(number: int) -> str:
    """``SIGTERM`` for 15."""
    return signal.Signals(number).name
