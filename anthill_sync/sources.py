"""Where a value's bytes come from: memory, a file (named or not) or a stored value read by position, or a stream read once."""

from __future__ import annotations

import io
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, BinaryIO

from .errors import AnthillError, LocalIOError, PermissionRefused, SourceChanged, SourceNotFound

SourceLike = bytes | bytearray | memoryview | os.PathLike[str] | BinaryIO | Iterable[bytes]


class BytesSource:
    """Bytes in memory; read without a copy."""

    __slots__ = ("_data", "size")
    origin: Mapping[str, Any] | None = None

    def __init__(self, data: Any) -> None:
        self._data: bytes | memoryview = data if type(data) is bytes else flat_bytes(memoryview(data))
        self.size = len(self._data)

    def read(self, offset: int, buffer: memoryview) -> memoryview:
        """``len(buffer)`` bytes from ``offset``, perhaps not in ``buffer``."""
        return memoryview(self._data)[offset : offset + len(buffer)]

    def check_unchanged(self) -> None:
        """Memory is the caller's to keep still."""

    def close(self) -> None:
        """Nothing to release."""


class FileSource:
    """A regular file, which ``found`` tells of. Opened when it is read and closed when nothing is left to read, so any
    number can wait in one put: opened again it is the same file, or ``check_unchanged`` says that it changed."""

    __slots__ = ("_fd", "_folder", "_identity", "_lock", "_path", "size")

    def __init__(self, path: os.PathLike[str], found: os.stat_result | None = None) -> None:
        self._path = os.fsdecode(path)
        self._lock = threading.Lock()  # guards _fd
        self._fd: int | None = None
        found = _stat(self._path) if found is None else found
        if not stat.S_ISREG(found.st_mode):
            raise SourceNotFound(f"{self._path}: not a regular file")
        self._identity = _identity(found)
        self.size = found.st_size
        self._folder = "" if self._path.startswith("/") else os.getcwd()

    @property
    def origin(self) -> Mapping[str, Any] | None:
        """What the index keeps so that ``resume`` finds the file, for a put of more than one image."""
        return _origin(os.path.join(self._folder, self._path))

    def read(self, offset: int, buffer: memoryview) -> memoryview:
        """Fill ``buffer`` from ``offset``; ``SourceChanged`` when the file ends before."""
        fd = self._open()
        try:
            count = _read_at(fd, buffer, offset)
        except OSError as error:
            raise _translated(error, self._path) from error
        if count < len(buffer):
            raise self._changed()
        return buffer

    def check_unchanged(self) -> None:
        """``SourceChanged`` when size, mtime or inode are not what they were when the put began."""
        fd = self._open()
        if _identity(os.fstat(fd)) != self._identity:
            raise self._changed()

    def close(self) -> None:
        """Close the file; safe to repeat."""
        with self._lock:
            fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _open(self) -> int:
        with self._lock:
            if self._fd is None:
                try:
                    self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
                except OSError as error:
                    raise _translated(error, self._path) from error
            return self._fd

    def _changed(self) -> SourceChanged:
        return SourceChanged(f"{self._path}: changed while it was read; nothing was published, put it again")


class SpooledSource:
    """``size`` bytes of an unnamed file that only its owner can change, read by position. The descriptor stays its
    owner's, and no ``resume`` could find the file: there is no origin."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.size = size
        self.origin: Mapping[str, Any] | None = None

    def read(self, offset: int, buffer: memoryview) -> memoryview:
        """Fill ``buffer`` from ``offset``."""
        try:
            count = _read_at(self._fd, buffer, offset)
        except OSError as error:
            raise _translated(error, "the spool file") from error
        if count < len(buffer):
            raise LocalIOError("the spool file is shorter than what was written to it")
        return buffer

    def check_unchanged(self) -> None:
        """Nobody else has it."""

    def close(self) -> None:
        """Its owner closes it."""


class StreamSource:
    """A binary file or an iterable of bytes, read once on the caller's thread."""

    size: int | None = None

    def __init__(self, stream: Any, *, owned: bool = False) -> None:
        self._stream = stream
        self._owned = owned
        self.origin: Mapping[str, Any] | None = None

    def chunks(self, chunk_size: int, stopped: Callable[[], bool] = lambda: False) -> Iterator[bytes]:
        """Chunks of ``chunk_size`` bytes, a shorter one last, none empty. ``stopped`` is asked after each piece, so an
        iterable that has nothing to give now may yield ``b""``, and need not be waited for when the put has failed."""
        pieces = _file_pieces(self._stream, chunk_size) if hasattr(self._stream, "read") else _iterable_pieces(self._stream)
        held = bytearray()
        for piece in pieces:
            if stopped():
                return
            if len(piece) == chunk_size and not held:
                yield bytes(piece)
                continue
            held += piece
            while len(held) >= chunk_size:
                yield bytes(memoryview(held)[:chunk_size])
                del held[:chunk_size]
        if held:
            yield bytes(held)

    def read(self, offset: int, buffer: memoryview) -> memoryview:
        """A stream cannot be read by position: its chunks are held by the upload until they are sealed."""
        raise AssertionError(f"a stream was asked for {len(buffer)} bytes at {offset}")

    def check_unchanged(self) -> None:
        """A stream was read once, to its end: it is what was read."""

    def close(self) -> None:
        """Close what ``open_source`` opened; any other stream is the caller's."""
        if self._owned:
            self._stream.close()


class StoredSource:
    """A value that is stored already: ``read`` gives its bytes by position."""

    def __init__(self, size: int, read: Callable[[int, memoryview], memoryview]) -> None:
        self.size = size
        self.read = read
        self.origin: Mapping[str, Any] | None = None

    def check_unchanged(self) -> None:
        """A block that opens is what was sealed."""

    def close(self) -> None:
        """Nothing to release."""


Source = BytesSource | FileSource | SpooledSource | StreamSource | StoredSource


def open_source(source: object) -> Source:
    """The Source for whatever ``put`` takes; ``TypeError`` says what to pass instead of a ``str``."""
    if isinstance(source, str):
        raise TypeError("a str is not a source: pass Path(...) for a file, or text.encode() for its bytes")
    if isinstance(source, (bytes, bytearray, memoryview)):
        return BytesSource(source)
    if isinstance(source, (BytesSource, SpooledSource)):
        return source
    if isinstance(source, os.PathLike):
        return _open_path(source)
    if isinstance(source, io.TextIOBase):
        raise TypeError("a text file is not a source: open it in binary mode ('rb')")
    if not hasattr(source, "read"):
        with suppress(TypeError):  # has no buffer: an iterable, perhaps
            return BytesSource(source)
        if not isinstance(source, Iterable):
            raise TypeError(f"{type(source).__name__} is not a source: pass bytes, a path, a binary file or an iterable of bytes")
    return StreamSource(source)


def _open_path(path: os.PathLike[str]) -> Source:
    found = _stat(os.fsdecode(path))
    if stat.S_ISREG(found.st_mode):
        return FileSource(path, found)
    if stat.S_ISDIR(found.st_mode):
        raise SourceNotFound(f"{os.fsdecode(path)}: is a directory; a directory is stored with -r")
    return StreamSource(open(path, "rb", buffering=0), owned=True)


def _read_at(fd: int, buffer: memoryview, offset: int) -> int:
    """Fill ``buffer`` from ``offset``; how many bytes there were."""
    done = 0
    while done < len(buffer):
        count = os.preadv(fd, [buffer[done:]], offset + done)
        if count == 0:
            break
        done += count
    return done


def _file_pieces(stream: Any, chunk_size: int) -> Iterator[bytes]:
    while True:
        piece = stream.read(chunk_size)
        if piece is None:
            raise BlockingIOError("the source is not ready: it is in non-blocking mode")
        if isinstance(piece, str):
            raise TypeError("the source returns text: open it in binary mode ('rb')")
        if not piece:
            return
        yield piece


def _iterable_pieces(stream: Iterable[Any]) -> Iterator[memoryview]:
    for piece in stream:
        if isinstance(piece, (str, int)):
            raise TypeError(f"the source yields {type(piece).__name__}, not bytes")
        yield flat_bytes(memoryview(piece))


def flat_bytes(view: memoryview) -> memoryview:
    """The bytes of ``view`` in logical order; copied only where they do not lie like that in memory."""
    return view.cast("B") if view.c_contiguous else memoryview(view.tobytes())


def _origin(path: str) -> Mapping[str, Any] | None:
    """The absolute path; None for one that is not text (Linux allows any bytes)."""
    absolute = os.path.abspath(path)
    try:
        absolute.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return {"path": absolute}


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise _translated(error, path) from error


def _translated(error: OSError, path: str) -> AnthillError:
    """An operating system's error about a source file, as ours."""
    if isinstance(error, PermissionError):
        return PermissionRefused(f"{path}: {error.strerror}; make it readable: chmod u+r {path}")
    missing = isinstance(error, (FileNotFoundError, NotADirectoryError, IsADirectoryError))
    return (SourceNotFound if missing else LocalIOError)(f"{path}: {error.strerror}")
