"""A store as fsspec looks at it: what is there, and what to raise where nothing is."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from fsspec.spec import AbstractFileSystem

from .entries import check_key
from .errors import AnthillError, InvalidArgument, KeyExists, KeyNotFound, PermissionRefused
from .filesystem_listing import Info, all_below, directly_below, file_info, folder_info
from .reopening import without_secrets
from .store import Store
from .summaries import Entry

LOCK_WAIT = 60.0  # seconds: most programs that open a URL have nobody who would try again

# What fsspec itself may be told, and what its users pass along with it.
_FSSPEC_OPTIONS = {"asynchronous", "loop", "use_listings_cache", "listings_expiry_time", "max_paths"}


class LookingFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The part of ``AnthillFileSystem`` that changes nothing and reads no value."""

    protocol = "anthill"
    root_marker = ""
    _strip_tokenize_options = ("passphrase",)  # which fsspec then neither keeps, nor pickles, nor makes names of

    def __init__(
        self,
        home: str | os.PathLike[str] | None = None,
        *,
        passphrase: str | None = None,
        lock_wait: float = LOCK_WAIT,
        read_only: bool = False,
        settings: Mapping[str, Any] | None = None,
        **fsspec_options: Any,
    ) -> None:
        _check_options(fsspec_options, settings or {})
        super().__init__(**fsspec_options)
        self._options: dict[str, Any] = {"lock_wait": lock_wait, "read_only": read_only, "settings": settings}
        opened = Store.open(None if home is None else Path(home), passphrase=passphrase, **self._options)
        self.home = opened.home
        self._stores = {os.getpid(): opened}

    @property
    def store(self) -> Store:
        """The store behind the paths; a forked process has its own."""
        pid = os.getpid()
        if pid not in self._stores:
            opened = Store.open(self.home, **self._options)
            if self._stores.setdefault(pid, opened) is not opened:  # another thread was faster
                opened.close()
        return self._stores[pid]

    @property
    def fsid(self) -> str:
        return f"anthill_{self.home}"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        stripped = super()._strip_protocol(path)
        return stripped if isinstance(stripped, list) else stripped.strip("/")

    # -- looking

    def info(self, path: str, **kwargs: Any) -> Info:
        """Name, size and type, and of a value its version and times. ``FileNotFoundError``: no such key, and none below."""
        name = self._strip_protocol(path)
        try:
            return file_info(self.store.stat(name, blocks=False))
        except (KeyNotFound, InvalidArgument) as error:
            if self._is_folder(name):
                return folder_info(name)
            raise _missing(path) from error

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Whether there is a value or a folder. A store that cannot tell is an error."""
        return self._type(path) is not None

    def isfile(self, path: str) -> bool:
        """Whether there is a value."""
        return self._type(path) == "file"

    def isdir(self, path: str) -> bool:
        """Whether there are values below it, and none of that name."""
        return self._type(path) == "directory"

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """What lies directly below ``path``; of a value that has nothing below it, itself."""
        name = self._strip_protocol(path)
        entries = self._entries(name)
        if name and not entries:
            raise _missing(path)
        found = directly_below(entries, name) or [file_info(entry) for entry in entries]
        return found if detail else sorted({each["name"] for each in found})

    def find(self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **kwargs: Any) -> Any:
        """All values at and below ``path``, from one look at the index."""
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        name = self._strip_protocol(path)
        found = all_below(self._entries(name), name, maxdepth, withdirs)
        return found if detail else list(found)

    def created(self, path: str) -> datetime:
        """When this version was sealed: versions do not change."""
        return self.modified(path)

    def modified(self, path: str) -> datetime:
        """When this version was sealed, in UTC."""
        with self._translated(path):
            return self.store.stat(self._key(path), blocks=False).modified

    # -- paths and keys

    def _key(self, path: str, folders: bool = True) -> str:
        """The key of a value that is to be there; what cannot be a key is not there."""
        try:
            return check_key(self._strip_protocol(path))
        except InvalidArgument:
            raise self._absent(path, folders) from None

    def _keys(self, path: Any, recursive: bool, maxdepth: int | None) -> list[str]:
        """Those that a path, a pattern, or a list of them means."""
        names = self.expand_path(path, recursive=recursive, maxdepth=maxdepth)
        stored = set(self.store)
        others = [name for name in names if name not in stored]
        if others and not recursive:
            raise self._absent(others[0])
        return [name for name in names if name in stored]

    def _entries(self, name: str) -> list[Entry]:
        """At and below ``name``."""
        try:
            return self.store.entries(name)
        except InvalidArgument:  # it cannot be a key, so nothing is there
            return []

    def _is_folder(self, name: str) -> bool:
        return not name or any(key.startswith(f"{name}/") for key in self.store)

    def _type(self, path: str) -> str | None:
        try:
            return str(self.info(path)["type"])
        except FileNotFoundError:
            return None

    # -- errors

    def _absent(self, path: str, folders: bool = True) -> OSError:
        """What to raise where there is no value; ``folders`` that are there in its place are said to be."""
        if folders and self._is_folder(self._strip_protocol(path)):
            return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return _missing(path)

    @contextmanager
    def _translated(self, path: str, folders: bool = True) -> Iterator[None]:
        """Our errors that have a name of the operating system's, under that: callers look for it."""
        try:
            yield
        except KeyNotFound as error:
            raise self._absent(path, folders) from error
        except KeyExists as error:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from error
        except AnthillError as error:
            if error.exit_code != PermissionRefused.exit_code:  # which a failed put has of its cause
                raise
            raise PermissionError(errno.EACCES, str(error), path) from error


def _missing(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _check_options(fsspec_options: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """``InvalidArgument`` for options that nobody knows: a misspelt ``home`` would be the usual one. And for secrets."""
    unknown = fsspec_options.keys() - _FSSPEC_OPTIONS
    if unknown:
        raise InvalidArgument(
            f"no storage option is named {', '.join(sorted(unknown))}; there are home, passphrase, lock_wait, read_only, settings"
        )
    secret = settings.keys() - without_secrets(settings).keys()
    if secret:
        raise InvalidArgument(
            f"fsspec keeps and pickles settings, and {', '.join(sorted(secret))} may hold a secret: set it with "
            "'anthill config' or in the environment"
        )
