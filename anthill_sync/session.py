"""``Session``: everything an open store consists of, and who may change it when.

Locks, in the order in which they are taken:

1. key locks (``KeyLocks``): all keys of one mutation, in byte order; they order mutations of one key.
2. the writer gate (``_gate``) around the store's ``flock``: the first mutation takes it, the last gives it back.
   Under it, or alone, ``_building``: of pools, pads and memory map one set is made; nothing is taken meanwhile.
3. an upload's own lock, or ``Committer._announce_lock``: held while a record about it becomes durable.
4. a shared pad, one at a time (``Space.busy``): from reading the old image until its COMMITTED record is applied.
5. the memory map's lock: every decision about pads; no I/O and no callback under it.
6. ``Journal``'s group commit and ``index_lock``: the index; no network I/O and no callback under it.
7. leaves: ``Operation.lock``, ``Stage._lock``, caches. Nothing is taken under them.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .config import Config
from .errors import Interrupted, NestedMutation, PermissionRefused, StoreClosed, StoreLocked, UsedAfterFork
from .index import MasterIndex
from .journal import Journal
from .keylocks import KeyLocks
from .keys import MasterKey
from .networks.base import Network
from .settings import Settings

if TYPE_CHECKING:
    from .allocator import MemoryAllocator
    from .download import Downloader
    from .machine import Machine
    from .operation import Operation
    from .pads import Pads
    from .pipeline import Pipeline

T = TypeVar("T")

_OPEN: weakref.WeakSet[Session] = weakref.WeakSet()


class Session:
    """One open store. Belongs to the process that opened it; may be used from many threads."""

    def __init__(
        self,
        home: Path,
        config: Config,
        key: MasterKey,
        settings: Settings,
        network: Network,
        *,
        lock_wait: float,
        read_only: bool,
    ) -> None:
        self.home, self.config, self.key, self.settings, self.network = home, config, key, settings, network
        self.journal = Journal(home)
        self._building = threading.Lock()  # guards _built, of which there is one however many threads ask first
        self._built: Machine | None = None
        self._lock_wait, self._read_only = lock_wait, read_only
        self._pid = os.getpid()
        self._closed = False
        self._key_locks = KeyLocks()
        self._gate = threading.RLock()  # guards _writers, _operations and taking and giving back the flock
        self._left = threading.Condition(self._gate)  # entered as the lock alone: an interrupt can leave no Condition held
        self._writers: set[object] = set()
        self._begun = False  # since the lock was taken: what an earlier run was writing is resolved
        self._replacing = False  # the one writer is about to put another index in place
        self._operations: set[Operation] = set()
        self._inside = threading.local()
        _OPEN.add(self)

    def _machine(self) -> Machine:
        with self._building:
            if self._built is None:
                from .machine import Machine

                self._built = Machine(self.config, self.key, self.settings, self.network, self.journal)
                if self._closed:
                    self._built.pipeline.close()
            return self._built

    @cached_property
    def pipeline(self) -> Pipeline:
        return self._machine().pipeline

    @cached_property
    def pads(self) -> Pads:
        return self._machine().pads

    @cached_property
    def allocator(self) -> MemoryAllocator:
        return self._machine().allocator

    @cached_property
    def downloader(self) -> Downloader:
        return self._machine().downloader

    def index(self) -> MasterIndex:
        """The index as the files have it now."""
        self.check_usable()
        self.journal.refresh()
        return self.journal.index

    def mutate(self, keys: Iterable[str], change: Callable[[MasterIndex], T]) -> T:
        """What ``change`` returns, called with the current index while the keys and the store's lock are held. No context
        manager, like ``replace`` and ``answer``: one that an interrupt left suspended would keep the locks."""
        self._check_may_write()
        return self._key_locks.hold(keys, lambda: self._as_writer(change))

    def _as_writer(self, change: Callable[[MasterIndex], T]) -> T:
        writer = object()
        try:  # around _enter too: an interrupt may come when it has just returned
            self._enter(writer)
            return self.inside(lambda: change(self.journal.index))
        finally:
            try:
                self._leave(writer)
            except BaseException:  # an interrupt as it began must not leave an idle Store with the lock
                self._leave(writer)
                raise

    def replace(self, rebuild: Callable[[], T]) -> T:
        """What ``rebuild`` returns, called while the store's lock is held, alone in this process too, and nobody has looked at
        the index: to put another in its place."""
        self._check_may_write()
        writer = object()
        try:  # around all of it: an interrupt may come at any moment
            with self._gate:
                if self._writers:
                    raise StoreLocked(f"{self.home}: another thread is changing this Store; try again later")
                self._writers.add(writer)
                self._replacing = True
                self.journal.seize(self._lock_wait)
            return self.inside(rebuild)
        finally:
            with self._gate:
                if writer in self._writers:
                    self._writers.discard(writer)
                    self._replacing = False
                    self.journal.give_up()
                    self._left.notify_all()

    def replace_index(self, index: MasterIndex) -> list[Path]:
        """Inside ``replace``: put ``index`` in place of the one that was there, and the memory map that it implies; the
        names under which the old files are kept."""
        kept = self.journal.replace(index)
        with self.allocator.lock:
            self.allocator.load()
        return kept

    def inside(self, act: Callable[[], T]) -> T:
        """What ``act`` returns: a mutation, or a callback of one, whose thread may not start another."""
        before = getattr(self._inside, "active", False)
        try:
            self._inside.active = True
            return act()
        finally:
            self._inside.active = before

    def check_writable(self) -> None:
        """Raise unless this process could begin a mutation now."""
        self.check_usable()
        if self._read_only:
            raise PermissionRefused(f"{self.home} was opened read-only")

    def check_usable(self) -> None:
        """Raise when the store is closed, or belongs to another process."""
        if os.getpid() != self._pid:
            raise UsedAfterFork("this Store was opened before a fork: open it again in the child process")
        if self._closed:
            raise StoreClosed("the Store is closed")
        if self.journal.failure is not None:
            failure = self.journal.failure
            raise StoreClosed(f"the Store closed itself after this failure: {failure}", failure)

    def _check_may_write(self) -> None:
        self.check_writable()
        if getattr(self._inside, "active", False):
            raise NestedMutation("a callback or source of this Store may not change the same Store: it would wait for itself")

    def _enter(self, writer: object) -> None:
        with self._gate:
            if self._replacing:
                raise StoreLocked(f"{self.home}: another thread is rebuilding the index; try again later")
            if not self._writers:
                if self.journal.held:  # an interrupt kept the last writer from giving it back
                    self.journal.give_up()
                self._begun = False
                self.journal.take(self._lock_wait)
                self.allocator.begin_run()
                self._begun = True
            self._writers.add(writer)

    def _leave(self, writer: object) -> None:
        with self._gate:
            try:
                self._writers.discard(writer)
            finally:
                if not self._writers and self.journal.held:
                    self._give_back()
                self._left.notify_all()

    def _give_back(self) -> None:
        """Only a run that has begun may say ``idle``: before that nobody has looked at what an earlier one was writing, and
        an interrupt or error at any moment since the lock was taken must leave that named."""
        if self._begun:
            self.allocator.end_run()
        else:
            self.journal.give_up()

    @contextmanager
    def operating(self, operation: Operation) -> Iterator[Operation]:
        """``close`` in another thread stops the operation while it runs inside the ``with``."""
        with self._gate:
            if self._closed:  # meanwhile: ``close`` has stopped those it knew, and pools take nothing more
                raise Interrupted("the Store was closed")
            self._operations.add(operation)
        try:
            yield operation
        finally:
            with self._gate:
                self._operations.discard(operation)

    def answer(self, question: Callable[[bool], T]) -> T:
        """The answer to ``question``, while the memory map follows the index; it is told True when nothing of this process is
        changing it, and nothing will. No context manager: one that an interrupt left suspended would keep the locks."""
        self.check_usable()
        with self._gate:
            if not self._writers:
                with self.allocator.lock, self.journal.index_lock:
                    self.journal.refresh()
                    self.allocator.load()
                    return question(True)
        return question(False)

    def close(self) -> None:
        """Stop what runs in other threads (4 seconds, then connections are closed); safe to repeat."""
        if self._closed or os.getpid() != self._pid:
            return
        with self._gate:
            for operation in self._operations:
                operation.fail(Interrupted("the Store was closed"))
            self._closed = True
            ended = self._writers_end()
        self.network.close()
        if not ended:
            with self._gate:
                self._writers_end()
        with self._building:  # perhaps a reader in another thread needs it just now: then it finds the pools closed
            if self._built is not None:
                self._built.pipeline.close()
        self.journal.close()

    def _writers_end(self) -> bool:
        """Wait, not for ever, until nobody changes the store."""
        if not self._writers:
            return True
        from .operation import GRACE_SECONDS

        return self._left.wait_for(lambda: not self._writers, GRACE_SECONDS)

    def forget_after_fork(self) -> None:
        """In a forked child: close its copies of descriptors; the parent's store is untouched."""
        self.journal.forget_after_fork()


def _after_fork() -> None:
    for session in list(_OPEN):
        session.forget_after_fork()


os.register_at_fork(after_in_child=_after_fork)
