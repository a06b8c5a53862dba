"""Values as files: what ``store.open`` returns.

A reader is bound to the version that was the current one when it was opened. A writer collects what is written in a
``Spool`` and puts it when it is closed: no lock is held and no thread runs while the caller takes its time, a program
may have any number of handles open and change the store meanwhile, and what is not closed leaves nothing behind. The
price is room on the home's disk, for values larger than ``spool.HELD``, until the handle is closed.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .download import ReadAhead
from .errors import BlockDamaged, PadNotFound, ValueChanged
from .reader import Reader
from .session import Session
from .sources import BytesSource, SpooledSource, flat_bytes
from .spool import Spool
from .summaries import Entry
from .values import Value

if TYPE_CHECKING:
    from typing_extensions import Self

Publish = Callable[[BytesSource | SpooledSource], Entry]


class ValueReader(io.RawIOBase):
    """One version of a value, by position. Holds at most ``READ_AHEAD`` + 1 chunks, and as many on their way."""

    mode = "rb"

    def __init__(self, session: Session, reader: Reader, key: str, value: Value) -> None:
        self.name = key
        self._session, self._reader, self._value = session, reader, value
        self._chunk_size = session.allocator.chunk_size
        self._ahead = ReadAhead(session.downloader, value)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """The bytes at the position, up to the end of their chunk; 0 at the end of the value. ``ValueChanged``: the value
        was replaced and its space used again, so this version cannot be read any more."""
        _require_open(self, self.name)
        view = flat_bytes(memoryview(buffer))
        number, first = divmod(self._position, self._chunk_size)
        if not view or self._position >= self._value.size:
            return 0
        plain = memoryview(self._chunk(number))[first : first + len(view)]
        view[: len(plain)] = plain
        self._position += len(plain)
        return len(plain)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position; reading beyond the end finds nothing."""
        _require_open(self, self.name)
        self._position = _position(offset, whence, self._position, self._value.size)
        return self._position

    def tell(self) -> int:
        _require_open(self, self.name)
        return self._position

    def close(self) -> None:
        """Stop reading ahead; safe to repeat."""
        if not self.closed:
            self._ahead.close()
        super().close()

    def _chunk(self, number: int) -> bytes:
        self._session.check_usable()
        try:
            return self._ahead.chunk(number)
        except (BlockDamaged, PadNotFound) as error:
            self._reader.check_replaced(self.name, self._value, error)
            raise ValueChanged(f"{self.name!r} was replaced while it was open; open it again", key=self.name) from error


class ValueWriter(io.BufferedIOBase):
    """A value being written. ``close`` publishes it, durably, and so does a ``with`` block that ends well; ``discard``,
    and a ``with`` block that an exception leaves, leave the old value, and so does a handle that is never closed.

    A wrapper (``TextIOWrapper``, gzip) closes what it wraps also when an exception leaves *its* ``with`` block, and says
    nothing of it. So ``close`` discards while an exception is being handled that was not when the value was opened;
    ``publish`` publishes even then.
    """

    mode = "wb"

    def __init__(self, session: Session, key: str, publish: Publish) -> None:
        self.name = key
        self.entry: Entry | None = None  # once it is published
        self._session = session
        self._publish = publish
        self._spool = Spool(session.home)
        self._position = 0
        self._handled = sys.exc_info()[1]
        self._lost = False  # a wrapper was destroyed that nobody had closed

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Write all of ``data`` at the position; how many bytes."""
        _require_open(self, self.name)
        self._session.check_writable()
        count = self._spool.write(data, self._position)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position; what is never written reads as zeros."""
        _require_open(self, self.name)
        self._position = _position(offset, whence, self._position, self._spool.size)
        return self._position

    def tell(self) -> int:
        _require_open(self, self.name)
        return self._position

    def close(self) -> None:
        """Publish, unless an exception is on its way; the handle is closed in any case. Safe to repeat."""
        if self.is_failing():
            self.discard()
        else:
            self.publish()

    def is_failing(self) -> bool:
        """True when ``close`` would discard now."""
        handled = sys.exc_info()[1]
        return self._lost or (handled is not None and handled is not self._handled)

    def publish(self) -> None:
        """Make what was written the value, durably. Raises as ``Store.put`` does; the handle is closed then, too."""
        if not self.closed:
            try:
                super().close()
                self.entry = self._publish(self._spool.source())
            finally:
                self._release()

    def discard(self) -> None:
        """Leave the old value. Safe to repeat; nothing, when it is published already."""
        if not self.closed:
            super().close()
            self._release()

    def __enter__(self) -> Self:
        _require_open(self, self.name)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.publish()
        else:
            self.discard()

    def __del__(self) -> None:
        if not self.closed:
            warnings.warn(f"the value {self.name!r} was not closed and is not stored", ResourceWarning, stacklevel=2)
            self.discard()

    def _dealloc_warn(self, wrapper: object) -> None:
        """The interpreter calls this before a wrapper that was never closed closes us."""
        self._lost = True
        warnings.warn(f"the value {self.name!r} was not closed and is not stored", ResourceWarning, stacklevel=2)

    def _release(self) -> None:
        self._handled = None  # it holds the frames of its traceback
        self._spool.close()


class TextWriter(io.TextIOWrapper):
    """A ``ValueWriter`` that takes text."""

    def __init__(self, writer: ValueWriter, **how: Any) -> None:
        super().__init__(writer, **how)
        self._writer = writer

    @property
    def entry(self) -> Entry | None:
        """The value, once it is published."""
        return self._writer.entry

    def publish(self) -> None:
        """As ``ValueWriter.publish``."""
        if not self.closed:
            self.flush()
            self._writer.publish()

    def discard(self) -> None:
        """Leave the old value."""
        self._writer.discard()

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.publish()
        else:
            self.discard()


def _require_open(handle: io.IOBase, key: str) -> None:
    if handle.closed:
        raise ValueError(f"the value {key!r} was closed")


def _position(offset: int, whence: int, now: int, end: int) -> int:
    """Where ``seek(offset, whence)`` leads."""
    if whence not in (io.SEEK_SET, io.SEEK_CUR, io.SEEK_END):
        raise ValueError(f"whence {whence!r} is none of 0, 1, 2")
    position = offset + (0, now, end)[whence]
    if position < 0:
        raise ValueError(f"position {position} is negative")
    return position
