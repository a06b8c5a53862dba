"""Where a value goes: a file beside the destination and renamed over it, or a binary file in order."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from . import durable
from .errors import DestinationExists, LocalIOError, NoRoom, PermissionRefused

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Operating system errors about a destination, as ours."""
    try:
        yield
    except FileExistsError as error:
        raise DestinationExists(f"{path}: exists; --force (overwrite=True) replaces it") from error
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NoRoom(f"{path}: {error.strerror}; the destination cannot be written") from error
    except PermissionError as error:
        raise PermissionRefused(f"{path}: {error.strerror}") from error
    except OSError as error:
        kind = NoRoom if error.errno in (*_FULL, errno.EROFS) else LocalIOError
        raise kind(f"{path}: {error.strerror}") from error


class FileDestination:
    """A new file beside ``path``; written by position from any thread, then synced and renamed, or removed."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._path, self._overwrite = path, overwrite
        with translated(path):
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not overwrite and os.path.lexists(path):
                raise FileExistsError
            self._temporary = path.with_name(f".{path.name[:100]}.anthill-{secrets.token_hex(4)}")
            self._fd = durable.open_new(self._temporary, 0o666)

    def write(self, data: memoryview, offset: int) -> None:
        """Write ``data`` at ``offset``."""
        with translated(self._path):
            durable.write_at(self._fd, data, offset)
        durable.begin_sync(self._fd, offset, len(data))

    def restart(self) -> None:
        """Begin again with nothing written."""
        with translated(self._path):
            os.ftruncate(self._fd, 0)

    def finish(self) -> None:
        """The destination has all bytes, durably."""
        with translated(self._path):
            durable.sync(self._fd)
            if self._overwrite:
                durable.rename(self._temporary, self._path)
            else:
                os.link(self._temporary, self._path)
                durable.remove(self._temporary)
            durable.sync_folder(self._path.parent)
        os.close(self._fd)

    def discard(self) -> None:
        """Leave the destination as it was."""
        durable.remove(self._temporary)
        os.close(self._fd)


def write_stream(stream: BinaryIO, data: memoryview) -> None:
    """Write all of ``data``, also to a raw file that takes only a part at a time."""
    while data:
        count = stream.write(data)
        if count is None:
            raise BlockingIOError("the destination is not ready: it is in non-blocking mode")
        data = data[count:]
