"""Bytes of a value that is not complete yet: in memory while they are few, then in an unnamed file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

from . import durable
from .destinations import translated
from .settings import MIB
from .sources import BytesSource, SpooledSource, flat_bytes

HELD = MIB  # bytes kept in memory, and written to the file at once


class Spool:
    """Grows by ``write``; read as a source when it is complete. The file has no name from the moment it is made, so
    nothing is left of it when this process ends, however it ends; ``folder`` only says on which disk it lies."""

    def __init__(self, folder: Path) -> None:
        self.size = 0
        self._folder = folder
        self._held = bytearray()  # what comes next in the file
        self._start = 0  # and where
        self._file: BinaryIO | None = None

    def write(self, data: Any, offset: int) -> int:
        """Put ``data`` at ``offset``, zeros before it where there is nothing yet; its bytes. ``NoRoom``: the disk is full."""
        view = flat_bytes(memoryview(data))
        at = offset - self._start
        if not 0 <= at <= len(self._held) or at + len(view) > HELD:
            self._spill()
            self._start, at = offset, 0
        if len(view) > HELD:
            self._write(view, offset)
            self._start = offset + len(view)
        else:
            self._held[at : at + len(view)] = view
        if view:
            self.size = max(self.size, offset + len(view))
        return len(view)

    def source(self) -> BytesSource | SpooledSource:
        """Everything written, for one put; valid until ``close``."""
        if self._file is None:
            return BytesSource(self._held)
        self._spill()
        return SpooledSource(self._file.fileno(), self.size)

    def close(self) -> None:
        """Forget the bytes and free the disk; safe to repeat."""
        self._held = bytearray()
        if self._file is not None:
            self._file.close()

    def _spill(self) -> None:
        self._write(self._held, self._start)
        self._held, self._start = bytearray(), self._start + len(self._held)

    def _write(self, data: bytearray | memoryview, offset: int) -> None:
        with translated(self._folder):
            if self._file is None:
                from tempfile import TemporaryFile  # here: most programs never need it

                self._file = TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - ``close`` closes it
            durable.write_at(self._file.fileno(), data, offset)
