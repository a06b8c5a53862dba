"""``PadSupply``: empty pads for the units that need one, and the reservations that make more.

A unit that needs an empty pad waits in ``waiting`` until one is there, goes to ``upload_ready_queue``, and takes
the pad when it starts. ``demand`` counts the pads that running operations still need; whenever it exceeds what is
free and what is being reserved, more is reserved, also when an operation that had asked for pads fails.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Sequence
from typing import Protocol

from .errors import NetworkError, PadLimitExceeded
from .journal import Journal
from .memory_map import Kind, MemoryMap
from .networks.base import calling
from .operation import Operation, describe_failure
from .pads import Pads
from .pipeline import Pipeline

WINDOW = 2  # units and reservations an operation keeps queued, times the threads of the stage


class PadUnit(Protocol):
    """A unit that needs an empty pad."""

    @property
    def operation(self) -> Operation:
        """Whose demand it is part of."""

    def run(self) -> None:
        """Upload."""


class _Request:
    """Pads to reserve for one operation, lowest first. ``spare``: it does not need them."""

    def __init__(self, operation: Operation, numbers: Sequence[int], *, spare: bool = False) -> None:
        self.operation, self.spare = operation, spare
        self.numbers = deque(numbers)


class _ReserveUnit:
    """Reserve one pad."""

    def __init__(self, supply: PadSupply, request: _Request, pad: int) -> None:
        self._supply, self._request, self._pad = supply, request, pad

    def run(self) -> None:
        operation = self._request.operation
        with operation.working():
            self._try(operation)
            self._supply.feed(self._request, 1)
        operation.leave()

    def _try(self, operation: Operation) -> None:
        try:
            if operation.stop.is_set():
                self._supply.not_reserved(self._request, self._pad)
                return
            with calling(operation.call):
                self._supply.reserve(self._pad)
            operation.pad_reserved()
            self._supply.reserved(self._request, self._pad)
        except BaseException as error:  # noqa: BLE001 - the operation carries it to its caller
            if not (self._request.spare and isinstance(error, NetworkError)):  # whoever needs the pad will be told
                operation.fail(describe_failure(error, step="reserve", pad=self._supply.pads.name(self._pad).address))
            self._supply.not_reserved(self._request, self._pad)


class PadSupply:
    """``lock`` is the memory map's lock: it guards the map and everything here. No network or file I/O under it."""

    def __init__(self, lock: threading.RLock, journal: Journal, pads: Pads, pipeline: Pipeline) -> None:
        self.lock = lock
        self.journal = journal
        self.pads = pads
        self.map = MemoryMap(1 << 20, 0)
        self.doubts: dict[int, BaseException] = {}  # pads with an unanswered attempt, and why
        self._pipeline = pipeline
        self._waiting: deque[PadUnit] = deque()
        self._promised: set[PadUnit] = set()  # units in upload_ready_queue that will take a pad
        self._demand: Counter[Operation] = Counter()
        self._reserving: dict[int, _Request] = {}  # pads being reserved, and for whom
        self._unreserved: list[int] = []  # numbers whose reservation nobody is working on, lowest first

    def reset(self, memory_map: MemoryMap, unreserved: list[int]) -> None:
        """Begin with this map: the lock was just taken, nothing is running."""
        with self.lock:
            self.map = memory_map
            self.doubts.clear()
            self._waiting.clear()
            self._promised.clear()
            self._demand.clear()
            self._reserving.clear()
            self._unreserved = sorted(unreserved)

    # -- demand

    def shortage(self, more: int = 0) -> int:
        """Pads that would have to be reserved if ``more`` were needed now."""
        with self.lock:
            return max(0, self._demand.total() + more - self.map.free_pads() - len(self._reserving))

    def want(self, operation: Operation, count: int) -> None:
        """``operation`` needs ``count`` more empty pads; reserves what is missing. ``PadLimitExceeded`` before
        anything is reserved when that is more than the operation may."""
        with self.lock:
            if operation.stop.is_set():
                return
            request = self._request(operation, self.shortage(count))
            self._demand[operation] += count
        self._start(request)

    def unwant(self, operation: Operation, count: int) -> None:
        """It needs ``count`` fewer."""
        with self.lock:
            self._demand[operation] -= min(count, self._demand[operation])

    def reserve_ahead(self, operation: Operation, count: int) -> None:
        """Reserve ``count`` pads whether anyone needs them or not."""
        with self.lock:
            request = self._request(operation, count)
        self._start(request)

    def want_spare(self, operation: Operation) -> None:
        """Have a pad reserved beyond those that are needed now, unless there is one or it costs money."""
        with self.lock:
            missing = self.shortage(1) and not self.shortage() and not self.pads.network.properties.reservation_is_paid
            request = self._request(operation, 1, spare=True) if missing else None
        self._start(request)

    def queue(self, unit: PadUnit) -> None:
        """``unit`` is ready but for its pad."""
        with self.lock:
            self._waiting.append(unit)
        self.changed()

    def take(self, unit: PadUnit) -> int | None:
        """The pad for ``unit``, which has just started; None: it has been queued again."""
        with self.lock:
            self._promised.discard(unit)
            pad = self.map.take()
            if pad is None:
                self._waiting.appendleft(unit)
            elif self._demand[unit.operation]:
                self._demand[unit.operation] -= 1
        if pad is None:
            self.changed()
        return pad

    def forgo(self, unit: PadUnit) -> None:
        """``unit`` has started and needs no pad any more."""
        with self.lock:
            self._promised.discard(unit)
            self.unwant(unit.operation, 1)
        self.changed()

    def expected(self) -> int:
        """Pads that running operations will still take. Under ``lock``."""
        return self._demand.total()

    def give_back(self, pad: int) -> None:
        """The pad was taken and nothing was sent to it."""
        with self.lock:
            self.map.give_back(pad)
        self.changed()

    def block(self, pad: int, error: BaseException) -> None:
        """Whether the pad's new image has arrived is unknown."""
        with self.lock:
            self.map.block(pad)
            self.doubts[pad] = error
        self.changed()

    def withdraw(self, operation: Operation) -> list[PadUnit]:
        """The operation is over or has failed: forget its demand; returns its waiting units, taken out."""
        with self.lock:
            mine = [unit for unit in self._waiting if unit.operation is operation]
            self._waiting = deque(unit for unit in self._waiting if unit.operation is not operation)
            del self._demand[operation]
        self.changed()
        return mine

    # -- reservations

    def _request(self, operation: Operation, count: int, *, spare: bool = False) -> _Request | None:
        if count <= 0:
            return None
        if operation.max_pads is not None and operation.requested + count > operation.max_pads:
            raise PadLimitExceeded(
                f"{operation.requested + count} pads would have to be reserved and --max-pads allows {operation.max_pads}"
            )
        numbers, self._unreserved = self._unreserved[:count], self._unreserved[count:]
        first = self.map.total
        self.map.extend(first + count - len(numbers))
        numbers += range(first, self.map.total)
        request = _Request(operation, numbers, spare=spare)
        self._reserving.update(dict.fromkeys(numbers, request))
        return request

    def _start(self, request: _Request | None) -> None:
        if request is None:
            return
        operation = request.operation
        operation.requesting(len(request.numbers))
        operation.enter()
        try:
            self.journal.append([["reserving", first, last] for first, last in _ranges(list(request.numbers))])
        except BaseException:
            with self.lock:
                for pad in request.numbers:
                    self._reserving.pop(pad, None)
            operation.leave()
            raise
        for _ in range(WINDOW * self._pipeline.reservation.threads):
            self.feed(request, 1)
        operation.leave()

    def feed(self, request: _Request, count: int) -> None:
        """Queue the next ``count`` reservations; all that are left go back when the operation has stopped."""
        for _ in range(count):
            with self.lock:
                dropped = request.operation.stop.is_set() and self._drop(request)
                pad = request.numbers.popleft() if request.numbers else None
            if pad is None:
                if dropped:
                    self.changed()
                return
            request.operation.enter()
            self._pipeline.reservation.put(_ReserveUnit(self, request, pad))

    def _drop(self, request: _Request) -> bool:
        """Give up what is not queued yet; True when that was anything. Under ``lock``."""
        pads = list(request.numbers)
        request.numbers.clear()
        return self._return(request, pads)

    def _return(self, request: _Request, pads: list[int]) -> bool:
        """Nobody reserves these pads any more; True when that was so for any. An interrupt may leave a unit queued for a
        later run, which reserves the same numbers itself: those are not its to return. Under ``lock``."""
        mine = [pad for pad in pads if self._reserving.get(pad) is request]
        for pad in mine:
            del self._reserving[pad]
        self._unreserved = sorted([*self._unreserved, *mine])
        return bool(mine)

    def reserve(self, pad: int) -> None:
        """Make the pad ours on the network, then in the index, durably."""
        self.pads.network.reserve(self.pads.name(pad))
        self.journal.append([["reserved", pad]])

    def reserved(self, request: _Request, pad: int) -> None:
        """The pad is ours: whoever waits may have it."""
        with self.lock:
            if self._reserving.get(pad) is request:
                del self._reserving[pad]
                self.map.reserved(pad)
        self.changed()

    def not_reserved(self, request: _Request, pad: int) -> None:
        """The next reservation begins with this pad. Others may have counted on it."""
        with self.lock:
            self._return(request, [pad])
        self.changed()

    # -- dispatch

    def changed(self) -> None:
        """Something became free, was reserved or was given up: send on whoever can go."""
        with self.lock:
            while self._waiting and self.map.available() > len(self._promised):
                unit = self._waiting.popleft()
                self._promised.add(unit)
                unit.operation.upload_starting()
                self._pipeline.upload.put(unit)
            waiting = [] if self._promised else self._waiting
            operation = next((unit.operation for unit in waiting if not unit.operation.stop.is_set()), None)
        if operation is not None:
            self._unblock(operation)

    def _unblock(self, operation: Operation) -> None:
        """Units wait and no pad is on its way to them: find the one thing that would help."""
        try:
            with self.lock:
                request = None if self._reserving else self._remedy(operation)
            self._start(request)
        except BaseException as error:  # noqa: BLE001 - the operation carries it to its caller
            operation.fail(error)

    def _remedy(self, operation: Operation) -> _Request | None:
        """More pads when there are too few. Else the lowest never-written pad holds everyone up: reserve it when
        nobody does, or fail with its error when its write was not answered; when it is being written, wait."""
        if self.shortage():
            return self._request(operation, self.shortage())
        low = self.map.lowest_unwritten()
        if low < self.map.total and self.map.kinds[low] == Kind.UNRESERVED and low in self._unreserved:
            self._unreserved.remove(low)
            self._unreserved.insert(0, low)
            return self._request(operation, 1)
        if low in self.doubts:
            error = self.doubts[low]
            raise describe_failure(error, step="write", pad=self.pads.name(low).address)
        return None


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """(first, last) of every run of consecutive numbers."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
