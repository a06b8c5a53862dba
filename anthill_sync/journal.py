"""The journal: append with group commit, replay, checkpoint, and the lock around them.

The only code that writes the index's files. Orders that matter, and what they prevent:

- A record is applied to the index only after its line is synced: nobody acts on what power loss could undo.
- A checkpoint renames the snapshot before the journal. A crash in between leaves an old journal whose sequences
  the snapshot already has; replay skips them.
- A failed write or fsync is never repeated (the kernel may have dropped the pages): the store closes.
- Readers open the journal, keep it open, then read the snapshot: a checkpoint in between can only make the
  snapshot newer than that journal, and the changed inode tells at the next call.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

from . import collector, durable
from .errors import AnthillError, IndexDamaged, Interrupted, LocalIOError, NoRoom, PermissionRefused, StoreClosed
from .groupcommit import GroupCommit, Ticket
from .index import Freed, ImpossibleRecord, MasterIndex, Record
from .lines import REBUILD, Tail, batch_line, encode_records, first_line, in_parts, load_snapshot, scan, snapshot_lines
from .lock import FileLock

SNAPSHOT_NAME = "index.json"
JOURNAL_NAME = "index.journal"
LOCK_NAME = "lock"
CHECKPOINT_BYTES = 256 * 1024  # a journal smaller than this is never worth a checkpoint of its own
BUSY_FACTOR = 4  # while a run goes on its journal may grow to this many snapshots: a long put writes fewer of them
REST_FACTOR = 0.25  # at its end only to this part of one: a byte of it takes several times as long to open
LOAD_TRIES = 20  # a reader that meets this many checkpoints in a row gives up

log = logging.getLogger("anthill_sync.journal")


def create_files(home: Path) -> None:
    """The index of a store without pads and values: snapshot first, then journal."""
    _write_snapshot(home, MasterIndex())
    durable.replace_file(home / JOURNAL_NAME, first_line(0)[0])


class Journal:
    """``index`` as the files in ``home`` have it, and the way to change it.

    ``index_lock`` guards ``index``; it is never held during file or network I/O except by ``refresh``, which
    reads. Everything else belongs to the one thread that writes a line, or that takes or gives back the lock.
    """

    def __init__(self, home: Path) -> None:
        self.index = MasterIndex()
        self.index_lock = threading.RLock()
        self.failure: AnthillError | None = None
        self._home = home
        self._path = home / JOURNAL_NAME
        self._lock = FileLock(home / LOCK_NAME)
        self._commits = GroupCommit(self._commit, self._interrupted)
        self._append_fd: int | None = None
        self._read_fd: int | None = None
        self._end = 0  # offset behind the last verified line
        self._seen = -1  # file size at the last look
        self._last_sum = ""
        self._synced = 0
        self._torn = 0
        self._idle = True  # the last line says so, or there is none
        self._snapshot_size = 0

    @property
    def held(self) -> bool:
        """True while this process is the store's writer."""
        return self._lock.held

    # -- reading

    def refresh(self) -> bool:
        """Catch up with the files; True when the index changed. The writer is always up to date."""
        with self.index_lock:
            if self._lock.held and self._append_fd is not None:
                return False
            try:
                return self._catch_up()
            except BaseException as error:
                self._close_reader()  # perhaps half applied: the next look begins anew
                if isinstance(error, OSError):
                    raise self._unreadable(error) from error
                raise

    def _unreadable(self, error: OSError) -> AnthillError:
        text = f"{error.filename or self._path}: {error.strerror}"
        if isinstance(error, PermissionError):
            return PermissionRefused(f"{text}; make it readable: chmod u+r {error.filename}")
        return LocalIOError(f"{text}; nothing was changed")

    def _catch_up(self) -> bool:
        found = self._stat()
        if self._read_fd is None or found.st_ino != os.fstat(self._read_fd).st_ino or found.st_size < self._end:
            self._load()
            return True
        if found.st_size == self._seen:
            return False
        return self._read_more()

    def _stat(self) -> os.stat_result:
        try:
            return os.stat(self._path)
        except FileNotFoundError:
            raise IndexDamaged(f"{self._path}: the journal is missing; {REBUILD}") from None

    def _read_more(self) -> bool:
        assert self._read_fd is not None
        data = _read_from(self._read_fd, self._end)
        tail = scan(data, str(self._path), start=self._end, previous=self._last_sum, each=partial(self._replay, self.index))
        self._follow(tail)
        return tail.count > 0

    def _load(self) -> None:
        """Snapshot and journal anew, until both belong together."""
        for _ in range(LOAD_TRIES):
            self._close_reader()
            self._read_fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            snapshot = self._read_snapshot()
            with collector.at_rest():
                index, size = load_snapshot(snapshot, str(self._home / SNAPSHOT_NAME)), len(snapshot)
                del snapshot
                tail = scan(_read_from(self._read_fd, 0), str(self._path), each=partial(self._replay, index))
            if self._stat().st_ino == os.fstat(self._read_fd).st_ino:
                self._check_base(tail.base, index)
                self.index, self._snapshot_size = index, size
                self._idle = True
                self._follow(tail)
                return
        raise IndexDamaged(f"{self._path}: replaced again and again while it was read")

    def _read_snapshot(self) -> bytes:
        try:
            return (self._home / SNAPSHOT_NAME).read_bytes()
        except FileNotFoundError:
            raise IndexDamaged(f"{self._home / SNAPSHOT_NAME}: the index is missing; {REBUILD}") from None

    def _check_base(self, base: int, index: MasterIndex) -> None:
        if base > index.sequence:
            raise IndexDamaged(
                f"{self._path}: begins after sequence {base}, but the snapshot ends at {index.sequence}; {REBUILD}"
            )

    def _replay(self, index: MasterIndex, sequence: int, records: list[Record]) -> None:
        if sequence <= index.sequence:
            return
        if sequence != index.sequence + 1:
            raise IndexDamaged(f"{self._path}: sequence {sequence} follows {index.sequence}; lines are missing; {REBUILD}")
        try:
            index.replay(records)
        except ImpossibleRecord as error:
            raise IndexDamaged(f"{self._path}: sequence {sequence} does not fit the index: {error}; {REBUILD}") from error
        index.sequence = sequence

    def _follow(self, tail: Tail) -> None:
        self._end, self._seen, self._last_sum, self._torn = tail.end, tail.end + tail.torn, tail.last_sum, tail.torn
        if tail.count:
            self._idle = tail.idle

    # -- the writer

    def take(self, wait: float) -> bool:
        """Become the writer within ``wait`` seconds, else ``StoreLocked``. True when the index changed since
        the last look. A journal that its writer did not close properly is checkpointed before it is built upon."""
        self._lock.acquire(wait)
        try:
            with self.index_lock:  # no reader of this process may come between the last look and the first line
                changed = self.refresh()
                if self._torn:
                    log.warning("%s: cut off a torn tail of %d bytes after a crash", self._path, self._torn)
                if self._torn or not self._idle:
                    self.checkpoint()
                elif self._append_fd is None:
                    self._append_fd = durable.open_append(self._path)
                    self._synced = 0  # what an earlier run synced is not known here
        except BaseException as error:
            self._close_appender()
            self._close_reader()
            self._lock.release()
            if isinstance(error, OSError):
                raise self._fail(error) from error
            raise
        return changed

    def seize(self, wait: float) -> None:
        """Hold the lock without looking at the index, which may be damaged: to ``replace`` it, then ``give_up``."""
        self._lock.acquire(wait)

    def replace(self, index: MasterIndex) -> list[Path]:
        """Put ``index``, of a higher sequence, in place of the files; these stay beside, under the names returned. A crash
        leaves the old files, or the new snapshot and a journal whose sequences it has."""
        try:
            with self.index_lock:  # no reader of this process may load the old files in between
                kept = [durable.keep(path) for path in (self._home / SNAPSHOT_NAME, self._path) if path.exists()]
                self.index = index
                self.checkpoint()
                return kept
        except OSError as error:
            raise self._fail(error) from error

    def release(self, in_doubt: list[int]) -> None:
        """Stop being the writer, once no line is being written. ``in_doubt``: pads with an unanswered attempt."""
        self._commits.at_rest(lambda: self._release(in_doubt))

    def _release(self, in_doubt: list[int]) -> None:
        try:
            if self.failure is None and not (self._idle and set(in_doubt) == self.index.writing):
                self._write_line([encode_records([["idle", in_doubt]])], sync=False)  # lost, it costs the next one a checkpoint
                self._apply([["idle", in_doubt]])
                self._idle = True
                if self._outgrown(REST_FACTOR):  # whoever opens the store next reads this journal
                    self.checkpoint()
        except BaseException as error:
            self._close_reader()  # what is on disk is not known here: the next look begins anew
            if not isinstance(error, OSError):
                raise
            self._fail(error)
        finally:
            self._close_appender()
            self._lock.release()

    def give_up(self) -> None:
        """Stop being the writer without a word: the next one checkpoints and looks at what was being written. A line
        that is being written is waited for; later ones find the journal closed."""
        self._commits.at_rest(self._close_appender)
        self._lock.release()

    def append(self, records: list[Record]) -> Freed:
        """Make ``records`` durable in order, then apply them; tells what they freed. Thread-safe: everything that
        waits while a line is being written goes into the next line, with one write and one sync."""
        encoded = encode_records(records)  # here: what cannot be encoded is its caller's error, and fails nobody's line
        return self._commits.append(records, encoded)

    def _commit(self, batch: list[Ticket]) -> None:
        try:
            if self.failure is not None:
                raise StoreClosed(f"the store closed itself: {self.failure}", self.failure)
            if not self._lock.held or self._append_fd is None:
                raise StoreClosed("the store is closed")
            self._write_line([ticket.encoded for ticket in batch], sync=True)
            self._idle = False
            for ticket in batch:
                ticket.freed = self._apply(ticket.records)
            if self._outgrown(BUSY_FACTOR):
                self.checkpoint()
            for ticket in batch:
                ticket.done = True
        except BaseException as raised:
            error = raised if isinstance(raised, StoreClosed) else self._fail(raised)
            for ticket in batch:
                ticket.error, ticket.done = error, True
            if not isinstance(raised, Exception):
                raise

    def _interrupted(self) -> AnthillError:
        """Nobody knows how far the thread came that was writing."""
        return self.failure or self._fail(Interrupted("interrupted while the journal was written"))

    def _outgrown(self, times: float) -> bool:
        """Whether the journal is longer than this many snapshots, and worth one. A snapshot of S bytes is paid for by at
        least ``times * S`` bytes of journal, so a record costs O(1) however large the store is."""
        return self._end > max(times * self._snapshot_size, max(times, 1) * CHECKPOINT_BYTES)

    def _write_line(self, records: list[bytes], *, sync: bool) -> None:
        assert self._append_fd is not None
        line, own = batch_line(self.index.sequence + 1, self._last_sum, self._synced, records)
        durable.write_all(self._append_fd, line)
        if sync:
            durable.sync(self._append_fd)
            self._synced = self._end + len(line)
        self._end += len(line)
        self._seen, self._last_sum = self._end, own
        self.index.sequence += 1

    def _apply(self, records: list[Record]) -> Freed:
        with self.index_lock:
            return self.index.apply(*records)

    def _fail(self, error: BaseException) -> AnthillError:
        """The store closes: whether the last line is on disk is unknown, and only a new reading can tell."""
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        reason = error.strerror if isinstance(error, OSError) else str(error) or type(error).__name__
        kind = NoRoom if full else LocalIOError
        self.failure = kind(f"{self._path}: {reason}; what was confirmed before is safe, run it again once this is mended")
        self.failure.__cause__ = error
        return self.failure

    def checkpoint(self) -> None:
        """Write the snapshot, then begin a new journal. The writer only."""
        self._snapshot_size = _write_snapshot(self._home, self.index)
        line, own = first_line(self.index.sequence)
        durable.replace_file(self._path, line)
        self._open_appender()
        self._end = self._seen = self._synced = len(line)
        self._last_sum, self._torn, self._idle = own, 0, True

    def _open_appender(self) -> None:
        before, self._append_fd = self._append_fd, durable.open_append(self._path)
        if before is not None:  # never None in between: readers would take the writer for gone and load the index anew
            os.close(before)
        self._close_reader()
        self._read_fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)

    def _close_appender(self) -> None:
        fd, self._append_fd = self._append_fd, None
        if fd is not None:
            os.close(fd)

    def _close_reader(self) -> None:
        fd, self._read_fd = self._read_fd, None
        if fd is not None:
            os.close(fd)

    def close(self) -> None:
        """Close every file without writing anything; safe to repeat."""
        self._close_appender()
        self._close_reader()
        self._lock.release()

    def forget_after_fork(self) -> None:
        """In a forked child: close the child's copies, so the parent's exit frees the lock."""
        with suppress(OSError):
            self._close_appender()
            self._close_reader()
            self._lock.forget_after_fork()


def _write_snapshot(home: Path, index: MasterIndex) -> int:
    durable.replace_file(home / SNAPSHOT_NAME, in_parts(snapshot_lines(index)))
    return os.stat(home / SNAPSHOT_NAME).st_size


def _read_from(fd: int, offset: int) -> bytes:
    data = bytearray()
    while part := os.pread(fd, 1 << 20, offset + len(data)):
        data += part
    return bytes(data)
