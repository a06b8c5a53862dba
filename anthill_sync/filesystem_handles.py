"""What fsspec's ``open`` returns."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from .handles import ValueReader, ValueWriter
from .opening import READ_BUFFER


class FileReader(io.BufferedReader):
    """A ``ValueReader`` that knows its ``size`` in bytes, as fsspec's own files do."""

    def __init__(self, value: ValueReader) -> None:
        super().__init__(value, READ_BUFFER)
        self.size = self.seek(0, io.SEEK_END)
        self.seek(0)


class FileWriter(io.BufferedIOBase):
    """A ``ValueWriter`` whose errors are the operating system's. In a transaction (``deferred``) closing it publishes
    nothing: ``commit`` or ``discard`` does, at the transaction's end."""

    mode = "wb"

    def __init__(self, writer: ValueWriter, translated: Callable[[], AbstractContextManager[None]], deferred: bool) -> None:
        self.name = writer.name
        self._writer, self._translated, self._deferred = writer, translated, deferred

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Write all of ``data`` at the position; how many bytes."""
        self._require_open()
        with self._translated():
            return self._writer.write(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position; what is never written reads as zeros."""
        self._require_open()
        return self._writer.seek(offset, whence)

    def tell(self) -> int:
        self._require_open()
        return self._writer.tell()

    def close(self) -> None:
        """Publish as ``ValueWriter.close`` does, unless a transaction decides later."""
        if not self.closed:
            super().close()
            if self._writer.is_failing():
                self._writer.discard()
            elif not self._deferred:
                self.commit()

    def commit(self) -> None:
        """Publish what was written. The transaction calls it; nothing, when it is published or discarded already."""
        with self._translated():
            self._writer.publish()

    def discard(self) -> None:
        """Leave the old value."""
        self._writer.discard()
        super().close()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def __del__(self) -> None:
        """Never closed: the writer says so, and publishes nothing."""

    def _dealloc_warn(self, wrapper: object) -> None:
        """The interpreter calls this before a wrapper that was never closed closes us."""
        self._writer._dealloc_warn(wrapper)

    def _require_open(self) -> None:
        if self.closed:
            raise ValueError(f"the value {self.name!r} was closed")
