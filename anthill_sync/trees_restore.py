"""Keys as a directory tree: what ``get -r`` writes.

Every step below the destination is taken relative to an open directory and never through a
symlink, so nothing that lies in the destination, or that the store holds, can lead the writing
out of it. Names that collide, and files that would be overwritten, are found before anything is
written. Each file is written beside, verified, synced and renamed.

Small values are restored by a few threads, since each costs a round trip; a large one is already
downloaded by many, and several at once would only need their memory at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import durable
from .errors import Damaged, DestinationExists, KeyNotFound, NoRoom, ValueChanged
from .summaries import Entry
from .threads import start
from .trees import Left, Parts, Target

if TYPE_CHECKING:
    from .store import Store

THREADS = 8
SMALL = 1024 * 1024  # bytes; at most THREADS of these are in memory at once
JOIN_SECONDS = 2.0
MAX_LINK = 4096  # bytes of a symlink's target
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE = 0o1777  # never set-user-id or set-group-id: the owner is whoever restores


@contextlib.contextmanager
def _folder(root: int, parts: Parts, *, create: bool = False) -> Iterator[int]:
    """The directory ``parts`` below ``root``, open; every step refuses a symlink."""
    fd = os.dup(root)
    try:
        for part in parts:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=fd)
            inner = os.open(part, _FOLDER, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


class Restorer:
    """Writes targets below one directory, ``force`` over files that are there."""

    def __init__(
        self, store: Store, destination: Path, *, force: bool = False, on_progress: Callable[[int, int], None] | None = None
    ) -> None:
        self._store = store
        self._destination = destination
        self._force = force
        self._on_progress = on_progress
        self._done = 0
        self._total = 0
        self._root = -1
        self._new_mode = 0o666 & ~_umask()
        self.restored: list[Entry] = []
        self.left: list[Left] = []

    def run(self, targets: Sequence[Target]) -> None:
        """Restore all; what cannot be is in ``left`` afterwards. Raises, before anything is written,
        ``DestinationExists`` or ``NoRoom`` when something is in the way; and at once what would fail
        every target alike (the network, a full disk)."""
        self._total = sum(target.entry.size for target in targets)
        self._root = self._open_root(targets)
        try:
            self._write(targets)
        finally:
            os.close(self._root)

    # -- before anything is written

    def _open_root(self, targets: Sequence[Target]) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC  # the destination itself may be a symlink: the caller named it
        try:
            if not self._destination.exists():
                os.makedirs(self._destination)
            root = os.open(self._destination, flags)
        except OSError as error:
            raise NoRoom(f"{self._destination} cannot be restored into: {error.strerror}") from None
        try:
            for target in targets:
                self._check_way(root, target)
        except BaseException:
            os.close(root)
            raise
        return root

    def _check_way(self, root: int, target: Target) -> None:
        if not target.parts:
            return
        try:
            with _folder(root, target.parts[:-1]) as fd:
                there = os.stat(target.parts[-1], dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as error:
            raise NoRoom(f"{self._shown(target)}: {_why(error)}; nothing was written") from None
        if stat.S_ISDIR(there.st_mode) != (target.kind == "dir"):
            raise NoRoom(f"{self._shown(target)} is there and of another kind; nothing was written")
        if target.kind != "dir" and not self._force:
            raise DestinationExists(f"{self._shown(target)} is there; --force overwrites; nothing was written")

    def _shown(self, target: Target) -> str:
        return os.path.join(self._destination, target.path)

    # -- writing

    def _write(self, targets: Sequence[Target]) -> None:
        files = [t for t in targets if t.kind == "file"]
        self._write_small([t for t in files if t.entry.size <= SMALL])
        for target in files:
            if target.entry.size > SMALL:
                self._record(target, self._attempt(target, self._progress_of(target)))
        for kind in ("link", "dir"):  # links last of all names, times of directories after what is in them
            for target in targets:
                if target.kind == kind:
                    self._record(target, self._attempt(target, None))
        self._sync_folders(targets)

    def _write_small(self, targets: Sequence[Target]) -> None:
        """A few threads; the calling thread alone counts and reports."""
        work: queue.SimpleQueue[Target] = queue.SimpleQueue()
        results: queue.SimpleQueue[tuple[Target, Entry | BaseException]] = queue.SimpleQueue()
        stop = threading.Event()
        for target in targets:
            work.put(target)
        names = [f"anthill-restore-{n}" for n in range(min(THREADS, len(targets)))]
        threads = [threading.Thread(target=self._work, args=(work, results, stop), name=name, daemon=True) for name in names]
        started = start(*threads)
        try:
            for _ in targets:
                self._record(*results.get())
        finally:
            stop.set()
            _join(started)

    def _work(
        self,
        work: queue.SimpleQueue[Target],
        results: queue.SimpleQueue[tuple[Target, Entry | BaseException]],
        stop: threading.Event,
    ) -> None:
        with contextlib.suppress(queue.Empty):
            while not stop.is_set():
                target = work.get_nowait()
                results.put((target, self._attempt(target, None)))

    def _attempt(self, target: Target, on_progress: Callable[[int, int], None] | None) -> Entry | BaseException:
        """The entry that was restored, or the error: it is judged by the calling thread."""
        try:
            if target.kind == "dir":
                return self._make_folder(target)
            with _folder(self._root, target.parts[:-1], create=True) as fd:
                if target.kind == "link":
                    return self._make_link(fd, target)
                return self._make_file(fd, target, on_progress)
        except Exception as error:  # noqa: BLE001  (handed over to the calling thread)
            return error

    def _make_file(self, fd: int, target: Target, on_progress: Callable[[int, int], None] | None) -> Entry:
        with self._beside(fd, target) as temporary, open(os.open(temporary, _NEW_FILE, 0o600, dir_fd=fd), "wb") as file:
            entry = self._store.get_into(target.entry.key, file, on_progress=on_progress)
            file.flush()
            _stamp(file.fileno(), {"mode": self._new_mode, **entry.attributes})
            durable.sync(file.fileno())
        return entry

    def _make_link(self, fd: int, target: Target) -> Entry:
        if target.entry.size > MAX_LINK:
            raise Damaged(f"a symlink's target of {target.entry.size} bytes", key=target.entry.key)
        value = self._store[target.entry.key]
        with self._beside(fd, target) as temporary:
            os.symlink(value, temporary, dir_fd=fd)
            mtime = target.entry.attributes.get("mtime_ns")
            if isinstance(mtime, int):
                os.utime(temporary, ns=(mtime, mtime), dir_fd=fd, follow_symlinks=False)
        return target.entry

    def _make_folder(self, target: Target) -> Entry:
        with _folder(self._root, target.parts, create=True) as fd:
            _stamp(fd, target.entry.attributes)
        return target.entry

    @contextlib.contextmanager
    def _beside(self, fd: int, target: Target) -> Iterator[bytes]:
        """A new name in the target's directory; it takes the target's name at the end, or is removed."""
        temporary = b".anthill-" + os.urandom(8).hex().encode()
        try:
            yield temporary
            if not self._force and _is_there(fd, target.parts[-1]):
                raise DestinationExists(f"{self._shown(target)} has appeared meanwhile")
            os.replace(temporary, target.parts[-1], src_dir_fd=fd, dst_dir_fd=fd)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=fd)
            raise

    def _sync_folders(self, targets: Sequence[Target]) -> None:
        for parts in {target.parts[:-1] for target in targets}:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), _folder(self._root, parts) as fd:
                os.fsync(fd)

    # -- what became of it

    def _record(self, target: Target, result: Entry | BaseException) -> None:
        """Count what is done and list what concerns one target; raise what would fail all of them."""
        if isinstance(result, Entry):
            self.restored.append(result)
        elif isinstance(result, OSError) and result.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            self.left.append(Left(self._shown(target), _why(result)))
        elif isinstance(result, (Damaged, KeyNotFound, ValueChanged, DestinationExists)):
            self.left.append(Left(self._shown(target), str(result)))
        else:
            raise _fatal(result, self._shown(target))
        self._done += target.entry.size
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)

    def _progress_of(self, target: Target) -> Callable[[int, int], None] | None:
        report, before = self._on_progress, self._done
        return None if report is None else lambda done, _: report(before + done, self._total)


def _join(threads: Sequence[threading.Thread]) -> None:
    """Wait for what is running, not for ever: closing the store ends the rest."""
    until = time.monotonic() + JOIN_SECONDS
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _fatal(error: BaseException, path: str) -> BaseException:
    if isinstance(error, OSError) and error.errno != errno.EIO:
        return NoRoom(f"{path}: {error.strerror}")
    return error


def _why(error: OSError) -> str:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "a symlink or a file is where a directory must be"
    return error.strerror or str(error)


def _is_there(fd: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _stamp(fd: int, attributes: Mapping[str, Any]) -> None:
    """Give an open file or directory the mode and time that the attributes name."""
    mode, mtime = attributes.get("mode"), attributes.get("mtime_ns")
    if isinstance(mode, int):
        os.fchmod(fd, mode & _MODE)
    if isinstance(mtime, int):
        os.utime(fd, ns=(mtime, mtime))


def _umask() -> int:
    """There is no way to ask without setting it, so it is asked once, before any thread starts."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
