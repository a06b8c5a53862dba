"""Group commit: everything that waits while a line is being written goes into the next line, with one write and one
sync. Whoever finds nobody writing writes for all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .index import Freed, Record

CROWDED_LINES = 16  # so long after a line with several tickets more are expected to come together


class Ticket:
    """Records of one ``append``, waiting for the line they go into; ``encoded`` as they will stand in it."""

    __slots__ = ("done", "encoded", "error", "freed", "records")

    def __init__(self, records: list[Record], encoded: bytes) -> None:
        self.records, self.encoded = records, encoded
        self.freed = Freed()
        self.error: BaseException | None = None
        self.done = False  # durable and applied, or failed with ``error``


class GroupCommit:
    """``write`` makes one line of many tickets and marks each as done; ``broken`` is called when an interrupt kept it
    from that, and gives the error for the tickets it left. ``_lock`` guards everything here; ``_condition`` is not entered
    itself: an interrupt inside its methods would leave it held."""

    def __init__(self, write: Callable[[list[Ticket]], None], broken: Callable[[], BaseException]) -> None:
        self._write, self._broken = write, broken
        self._lock = threading.RLock()
        self._condition = threading.Condition(self._lock)
        self._waiting: list[Ticket] = []
        self._batch: list[Ticket] = []  # of the line that is being written
        self._leader: Ticket | None = None  # whose thread is writing it
        self._crowded = 0  # lines for which it still counts that one had several tickets

    def append(self, records: list[Record], encoded: bytes) -> Freed:
        """Return when ``records`` are durable and applied; what they freed."""
        ticket = Ticket(records, encoded)
        try:
            if self._leads(ticket):
                self._write(self._gather())
        finally:
            try:
                self._over(ticket)
            except BaseException:  # an interrupt just now must not leave everybody waiting for this thread
                self._over(ticket)
                raise
        if ticket.error is not None:
            raise ticket.error
        return ticket.freed

    def at_rest(self, action: Callable[[], None]) -> None:
        """Wait for the line that is being written, then run ``action`` before the next one."""
        with self._lock:
            self._condition.wait_for(lambda: self._leader is None)
            action()

    def _leads(self, ticket: Ticket) -> bool:
        """Wait until the ticket's line is written; True: this thread is to gather and write all that waits."""
        with self._lock:
            self._waiting.append(ticket)
            while self._leader is not None and not ticket.done:
                self._condition.wait()
            if not ticket.done:
                self._leader = ticket
            return not ticket.done

    def _gather(self) -> list[Ticket]:
        """All that waits. Where threads met here lately, those too that are about to append and only lack the interpreter:
        it is given up once, for about 0.1 ms, and one line, write and sync serve many more of them."""
        if self._crowded or len(self._waiting) > 1:
            time.sleep(0)
        with self._lock:
            self._batch, self._waiting = self._waiting, []
            self._crowded = CROWDED_LINES if len(self._batch) > 1 else max(0, self._crowded - 1)
            return self._batch

    def _over(self, ticket: Ticket) -> None:
        with self._lock:
            if self._leader is ticket:
                for each in self._batch:
                    if not each.done:
                        each.error, each.done = self._broken(), True
                self._condition.notify_all()  # first: interrupted here, this is done again
                self._batch = []  # its records may be thousands
                self._leader = None
            if ticket in self._waiting:
                self._waiting.remove(ticket)
