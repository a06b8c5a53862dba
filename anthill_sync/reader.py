"""Reading values while others may be writing: verified bytes of one version, or an error that says which."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from .destinations import FileDestination, write_stream
from .download import Part, parts_of
from .entries import value_of
from .errors import BlockDamaged, Damaged, InvalidArgument, PadNotFound, ValueChanged
from .session import Session
from .values import Value

T = TypeVar("T")
OnProgress = Callable[[int, int], object]  # bytes done, bytes in all
TRIES = 3  # a value replaced this often while it was read is given up


class Reader:
    """Reads for one session. A block that does not open may only mean that its space was reused for a newer value:
    the index is read again, and only an unchanged entry is reported as damage."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, key: str) -> bytes:
        """The whole value."""
        return self._retried(
            key, lambda value: b"".join([bytes(plain) for plain in self._plain(value, self._parts(value, 0, None))])
        )

    def into_file(
        self, key: str, path: Path, *, offset: int, length: int | None, overwrite: bool, on_progress: OnProgress | None
    ) -> Value:
        """Write beside ``path``, verify, sync and rename: all or nothing."""
        value_of(self._session.index(), key)
        destination = FileDestination(path, overwrite=overwrite)
        try:
            value = self._retried(key, lambda value: self._fill(value, destination, offset, length, on_progress))
            destination.finish()
        except BaseException:
            destination.discard()
            raise
        return value

    def into_stream(
        self, key: str, stream: BinaryIO, *, offset: int, length: int | None, on_progress: OnProgress | None
    ) -> Value:
        """Write verified bytes in order; an error may come after the first of them."""
        begun = False

        def copy(value: Value) -> Value:
            nonlocal begun
            parts, done = self._parts(value, offset, length), 0
            for plain in self._plain(value, parts):
                begun = True
                write_stream(stream, plain)
                done += len(plain)
                _report(on_progress, done, parts, self._session.allocator.chunk_size)
            return value

        return self._retried(key, copy, lambda: begun)

    def _fill(
        self, value: Value, destination: FileDestination, offset: int, length: int | None, on_progress: OnProgress | None
    ) -> Value:
        parts, done, chunk_size = self._parts(value, offset, length), 0, self._session.allocator.chunk_size
        destination.restart()

        def write(part: Part, plain: memoryview) -> int:
            destination.write(plain, part[0] * chunk_size + part[1] - offset)
            return len(plain)

        for count in self._session.downloader.each(value, parts, write):
            done += count
            _report(on_progress, done, parts, chunk_size)
        return value

    def _plain(self, value: Value, parts: list[Part]) -> Iterator[memoryview]:
        return self._session.downloader.plain(value, parts)

    def _parts(self, value: Value, offset: int, length: int | None) -> list[Part]:
        if offset < 0 or (length is not None and length < 0):
            raise InvalidArgument("offset and length may not be negative")
        rest = max(0, value.size - offset)
        return parts_of(value, self._session.allocator.chunk_size, offset, rest if length is None else min(length, rest))

    def _retried(self, key: str, use: Callable[[Value], T], begun: Callable[[], bool] = lambda: False) -> T:
        for _ in range(TRIES):
            value = value_of(self._session.index(), key)
            try:
                return use(value)
            except (BlockDamaged, PadNotFound) as error:
                self.check_replaced(key, value, error)
                if begun():
                    raise ValueChanged(f"{key!r} was replaced while it was being read; get it again", key=key) from error
        raise ValueChanged(f"{key!r} was replaced {TRIES} times while it was being read; get it again", key=key)

    def check_replaced(self, key: str, value: Value, error: Exception) -> None:
        """A block of ``value`` did not open: ``Damaged`` when that value is still the current one."""
        current = self._session.index().values.get(key)
        if current is not None and (current.data_ids, current.packed) == (value.data_ids, value.packed):
            raise Damaged(f"the value of {key!r} is damaged: {error}", key=key) from error


def _report(on_progress: OnProgress | None, done: int, parts: list[Part], chunk_size: int) -> None:
    if on_progress is not None and parts:
        total = sum(stop - first for _, first, stop in (parts[0], *parts[-1:])) if len(parts) > 1 else parts[0][2] - parts[0][1]
        on_progress(done, total + max(0, len(parts) - 2) * chunk_size)
