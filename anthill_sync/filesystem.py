"""A store as an fsspec filesystem, ``anthill://key``: for pandas, pyarrow, zarr, dask and whatever else takes such URLs.

A path is a key. A folder is there when a key lies below it, so none has to be made and none is left over; a name may be
that of a value and of a folder at once.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.implementations.local import LocalFileSystem

from .errors import InvalidArgument
from .filesystem_handles import FileReader, FileWriter
from .filesystem_listing import file_info
from .filesystem_looking import LookingFileSystem


class AnthillFileSystem(LookingFileSystem):
    """A store for everything that takes an fsspec filesystem, or a URL ``anthill://key`` with ``storage_options``.

    ``home``: the store's directory, by default the one of the command line; looked up once, as fsspec keeps filesystems
    and hands them out again. ``lock_wait``: seconds a change waits for another thread's or process's. ``passphrase``,
    ``read_only``, ``settings``: as for ``Store.open``, and what that raises is raised here. A pickle has all but the
    passphrase; a forked process opens the store for itself.

    What the operating system has a name for is raised under that: ``FileNotFoundError``, ``FileExistsError``,
    ``IsADirectoryError``, ``PermissionError``. Everything else is an ``AnthillError``.
    """

    # -- reading

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """The value, or its bytes from ``start`` up to ``end``, either of which may count from the end. ``FileNotFoundError``
        for a folder, too: to know it from nothing costs a look at all keys, and zarr asks for many that are not there."""
        with self._translated(path, folders=False):
            key = self._key(path, folders=False)
            if start is None and end is None:
                return self.store[key]
            with self.store.open(key, "rb") as value:
                first, stop, _ = slice(start, end).indices(value.seek(0, os.SEEK_END))
                value.seek(first)
                return value.read(max(0, stop - first))

    def get(self, rpath: Any, lpath: Any, *args: Any, **kwargs: Any) -> None:
        """As fsspec has it; a file is written beside its name, verified, and renamed."""
        super().get(rpath, self._inside(rpath, lpath, os.path.isdir), *args, **kwargs)

    def get_file(self, rpath: str, lpath: Any, callback: Any = DEFAULT_CALLBACK, outfile: Any = None, **kwargs: Any) -> None:
        """Write one value to a local file: beside it, verified, renamed. Of a folder, make the directory."""
        if outfile is not None or not isinstance(lpath, (str, os.PathLike)) or self.isdir(rpath):
            super().get_file(rpath, lpath, callback=callback, outfile=outfile, **kwargs)
            return
        local = LocalFileSystem(auto_mkdir=True)
        local.makedirs(local._parent(os.fspath(lpath)), exist_ok=True)
        with self._translated(rpath):
            key = self._key(rpath)
            callback.set_size(self.store.stat(key, blocks=False).size)
            self.store.get_into(key, Path(lpath), on_progress=lambda done, total: callback.absolute_update(done))

    # -- writing

    def pipe_file(self, path: str, value: Any, mode: str = "overwrite", **kwargs: Any) -> None:
        """Make ``value`` (bytes) the value; ``mode="create"``: ``FileExistsError`` when the key has one."""
        self.pipe({path: value}, mode=mode, **kwargs)

    def pipe(self, path: Any, value: Any = None, mode: str = "overwrite", **kwargs: Any) -> None:
        """Make bytes values; those of a dict share pads and one pipeline. In a transaction, at its end."""
        values = dict(path) if isinstance(path, Mapping) else {path: value}
        if self._intrans:
            for name, data in values.items():
                with self.open(name, "xb" if mode == "create" else "wb") as file:
                    file.write(data)
            return
        with self._translated(", ".join(map(str, values))):
            items = {self._strip_protocol(name): memoryview(data) for name, data in values.items()}
            self.store.put_many(items, if_absent=mode == "create")

    def put_file(self, lpath: Any, rpath: str, callback: Any = DEFAULT_CALLBACK, mode: str = "overwrite", **kwargs: Any) -> None:
        """Store a local file; a directory is there when something is in it."""
        if os.path.isdir(lpath):
            return
        if self._intrans:
            super().put_file(lpath, rpath, callback=callback, mode=mode, **kwargs)
            return
        size = os.path.getsize(lpath)
        callback.set_size(size)
        with self._translated(rpath):
            self.store.put(self._strip_protocol(rpath), Path(lpath), if_absent=mode == "create")
        callback.absolute_update(size)

    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        """Make an empty value. Without ``truncate`` one that is there stays as it is."""
        if truncate or not self.exists(path):
            self.pipe_file(path, b"")

    def _open(self, path: str, mode: str = "rb", block_size: Any = None, autocommit: bool = True, **kwargs: Any) -> Any:
        """As ``store.open``, in bytes. ``fs.open(..., compression=...)`` would not close this, and so never publish."""
        with self._translated(path):
            if mode == "rb":
                return FileReader(self.store.open(self._key(path), "rb", 0))
            writer = self.store.open(self._strip_protocol(path), mode)
        return FileWriter(writer, partial(self._translated, path), deferred=not autocommit)

    def open(self, path: str, mode: str = "rb", *args: Any, compression: str | None = None, **kwargs: Any) -> Any:
        """As the builtin; ``store.open`` says when it publishes. Reads all that fsspec can unpack; for writing give the
        ``compression`` to ``fsspec.open``, which closes what it opened."""
        if compression is not None and "r" not in mode:
            raise InvalidArgument(
                f"{path}: fs.open does not compress, for a compressor does not close what it writes to; "
                f"use fsspec.open(url, {mode!r}, compression={compression!r})"
            )
        if "b" not in mode:  # UTF-8, not the locale's encoding: another machine may read the value
            kwargs["encoding"] = kwargs.get("encoding") or "utf-8"
        return super().open(path, mode, *args, compression=compression, **kwargs)

    # -- copying, moving, removing

    def copy(self, path1: Any, path2: Any, *args: Any, **kwargs: Any) -> None:
        """As fsspec has it."""
        super().copy(path1, self._inside(path1, path2, self.isdir), *args, **kwargs)

    def cp_file(self, path1: str, path2: str, pairs: list[tuple[str, str]] | None = None, **kwargs: Any) -> None:
        """Put a value under another key too, with its attributes; of a folder, nothing. ``pairs`` is told of it instead."""
        old, new = self._strip_protocol(path1), self._strip_protocol(path2)
        if old not in self.store and self._is_folder(old):
            return
        if pairs is not None:
            pairs.append((old, new))
            return
        with self._translated(path1), self.store.open(self._key(path1), "rb") as value:
            self.store.put(new, value, attributes=self.store.stat(old, blocks=False).attributes)

    def mv(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any) -> None:
        """Rename values, one after the other, which moves no data. ``InvalidArgument``, before anything is moved, when one
        of them would be lost."""
        pairs: list[tuple[str, str]] = []
        if isinstance(path1, str) and isinstance(path2, str) and not recursive and self._strip_protocol(path1) in self.store:
            pairs.append(self._pair(self._strip_protocol(path1), path2))
        else:
            self._keys(path1, recursive, maxdepth)
            self.copy(path1, path2, recursive=recursive, maxdepth=maxdepth, on_error="raise", pairs=pairs)
        moves = {old: new for old, new in pairs if old != new}
        if len({*moves, *moves.values()}) < 2 * len(moves):
            raise InvalidArgument(f"{path1!r} to {path2!r} would replace a value that is moved itself")
        for old, new in moves.items():
            with self._translated(old):
                self.store.rename(old, new, force=True)

    def _pair(self, old: str, target: str) -> tuple[str, str]:
        """One value's names before and after."""
        new = self._strip_protocol(target)
        if target.endswith("/") or self.isdir(new):
            new = f"{new}/{old.rpartition('/')[2]}".strip("/")
        return old, new

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove values, all of them or none. A folder is an ``IsADirectoryError`` unless ``recursive``."""
        if not all(self._strip_protocol(each) for each in ([path] if isinstance(path, (str, os.PathLike)) else path)):
            raise InvalidArgument("an empty path would remove everything; fs.store.clear() does")
        keys = self._keys(path, recursive, maxdepth)
        with self._translated(str(path)):
            self.store.delete(*keys)

    def rm_file(self, path: str) -> None:
        """Remove one value."""
        with self._translated(path):
            self.store.delete(self._key(path))

    _rm = rm_file

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Nothing: a folder is there when a key lies below it."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Nothing, too."""

    def rmdir(self, path: str) -> None:
        """``OSError`` when something is in it; otherwise it is not there, but for one that ``put -r`` stored empty."""
        name = self._strip_protocol(path)
        entries = self._entries(name)
        if any(entry.key != name for entry in entries):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        if any(file_info(entry)["type"] != "directory" for entry in entries):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        if entries:
            self.rm_file(path)

    def _inside(self, source: Any, target: Any, is_folder: Callable[[str], bool]) -> Any:
        """``target`` for fsspec's copying, which forgets the name of a source without a slash when the target is a folder."""
        if not isinstance(source, str) or not isinstance(target, str) or source.endswith("/"):
            return target
        name = self._strip_protocol(source)
        if not name or "/" in name or not (target.endswith("/") or is_folder(target)):
            return target
        return f"{target.rstrip('/')}/{name}"
