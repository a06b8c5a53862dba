"""A directory tree as keys: what ``put -r`` finds in one, and where ``get -r`` puts it.

Regular files, symlinks (their target is the value) and empty directories become keys below one
key, with ``kind``, ``mode`` and ``mtime_ns`` as attributes. Everything is looked at with
``lstat``: a symlink below the root is stored, never followed.
"""

from __future__ import annotations

import os
import stat
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .entries import check_key
from .errors import InvalidArgument, NoRoom, SourceNotFound
from .summaries import Entry

_SPECIAL = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a fifo", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class FilePath:
    """A path that is only opened: to make a ``Path`` takes as long as to read a small file."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return self.path


class Found(NamedTuple):
    """One thing to store. ``source`` is a path, or the value itself for a symlink or a directory."""

    key: str
    path: str  # for words only
    source: FilePath | bytes
    size: int  # bytes
    attributes: Mapping[str, Any]

    def is_unchanged(self, entry: Entry | None) -> bool:
        """True where ``entry`` was made of this very file, as far as size, times and mode tell."""
        return entry is not None and entry.size == self.size and entry.attributes == self.attributes


@dataclass(frozen=True)
class Left:
    """One thing that is not stored or not restored, and why."""

    path: str
    reason: str
    failed: bool = True  # False: of a kind that is never stored


def scan(
    root: Path, key: str, *, avoid: Path | None = None, excluded: Callable[[str], bool] | None = None
) -> Iterator[Found | Left]:
    """Everything below the directory ``root`` as keys below ``key`` ('' for keys without a common part).

    ``avoid`` is a directory that is not entered: a store inside the tree it is to hold. What
    ``excluded`` says so of is as if it were not there; it is asked with the path below ``root``, a
    directory's with a slash at its end. Raises ``SourceNotFound`` or ``InvalidArgument`` when
    ``root`` is not a directory that can be listed.
    """
    try:
        names = _names(os.fsencode(root), b"", excluded)
        avoided = None if avoid is None else _identity(os.stat(avoid))
    except NotADirectoryError:
        raise InvalidArgument(f"{root} is not a directory; without -r a file is stored") from None
    except OSError as error:
        raise SourceNotFound(f"{root}: {error.strerror}") from None
    if not names and key:
        yield Found(key, str(root), b"", 0, _attributes("dir", os.stat(root)))
    yield from _scan_names(os.fsencode(root), names, key.encode(), avoided, excluded)


def _names(path: bytes, below: bytes, excluded: Callable[[str], bool] | None) -> list[bytes]:
    """Sorted names in the directory ``path``, which is ``below`` the root, without what is excluded."""
    if excluded is None:
        return sorted(os.listdir(path))
    with os.scandir(path) as things:
        ends = {thing.name: b"/" if thing.is_dir(follow_symlinks=False) else b"" for thing in things}
    return sorted(name for name, end in ends.items() if not excluded(os.fsdecode(below + name + end)))


def _scan_names(
    root: bytes,
    names: list[bytes],
    key: bytes,
    avoided: tuple[int, int] | None,
    excluded: Callable[[str], bool] | None,
) -> Iterator[Found | Left]:
    """Without recursion: a tree may be deeper than Python's stack."""
    waiting, base = list(reversed(names)), os.path.join(root, b"")
    while waiting:
        relative = waiting.pop()
        path = base + relative
        try:
            status = os.lstat(path)
            entered = stat.S_ISDIR(status.st_mode) and _identity(status) != avoided
            names = _names(path, relative + b"/", excluded) if entered else []
        except OSError as error:
            yield Left(os.fsdecode(path), error.strerror or str(error))
            continue
        if names:
            waiting += [relative + b"/" + name for name in reversed(names)]
        else:
            yield _one(path, status, key + b"/" + relative if key else relative, avoided)


def _one(path: bytes, status: os.stat_result, key: bytes, avoided: tuple[int, int] | None) -> Found | Left:
    shown = os.fsdecode(path)
    kind = stat.S_IFMT(status.st_mode)
    if kind in _SPECIAL:
        return Left(shown, f"{_SPECIAL[kind]} is not stored", failed=False)
    if avoided is not None and _identity(status) == avoided:
        return Left(shown, "the store itself is not stored", failed=False)
    problem = key_problem(key)
    if problem is not None:
        return Left(shown, problem)
    if kind == stat.S_IFREG:
        return Found(key.decode(), shown, FilePath(shown), status.st_size, _attributes("file", status))
    if kind == stat.S_IFDIR:
        return Found(key.decode(), shown, b"", 0, _attributes("dir", status))
    return _link(path, status, key.decode())


def _link(path: bytes, status: os.stat_result, key: str) -> Found | Left:
    shown = os.fsdecode(path)
    try:
        target = os.readlink(path)
    except OSError as error:
        return Left(shown, error.strerror or str(error))
    return Found(key, shown, target, len(target), _attributes("link", status))


def _attributes(kind: str, status: os.stat_result) -> dict[str, Any]:
    return {"kind": kind, "mode": stat.S_IMODE(status.st_mode), "mtime_ns": status.st_mtime_ns}


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def key_problem(key: bytes) -> str | None:
    """Why these bytes cannot be a key, or None."""
    try:
        check_key(key.decode())
    except UnicodeDecodeError:
        return "not a key: the name is not UTF-8"
    except InvalidArgument as error:
        return str(error)
    return None


# -- and back

Parts = tuple[bytes, ...]


@dataclass(frozen=True)
class Target:
    """One value and its place below the destination; no parts: the destination itself."""

    entry: Entry
    parts: Parts

    @property
    def kind(self) -> str:
        """link or dir where the attributes say so; all else is a file."""
        kind = self.entry.attributes.get("kind")
        return kind if kind in ("link", "dir") else "file"

    @property
    def path(self) -> str:
        """For words only."""
        return os.fsdecode(b"/".join(self.parts)) or "."


def plan(entries: Iterable[Entry], key: str) -> list[Target]:
    """Places for all entries at or below ``key``; ``NoRoom`` when two of them cannot both exist."""
    targets = [Target(entry, _parts(entry, key)) for entry in entries]
    taken: dict[Parts, tuple[str, Target]] = {}
    for target in targets:
        for length in range(len(target.parts) + 1):
            whole = length == len(target.parts)
            kind = target.kind if whole else "dir"
            _take(taken, target.parts[:length], kind, target)
    return targets


def _parts(entry: Entry, key: str) -> Parts:
    if entry.key == key and entry.attributes.get("kind") == "dir":
        return ()
    relative = entry.key.rsplit("/", 1)[-1] if entry.key == key else entry.key[len(key) + 1 if key else 0 :]
    return tuple(part.encode() for part in relative.split("/"))


def _take(taken: dict[Parts, tuple[str, Target]], parts: Parts, kind: str, target: Target) -> None:
    folded = tuple(map(_fold, parts))
    other_kind, other = taken.setdefault(folded, (kind, target))
    same_name = other.parts[: len(parts)] == parts
    if not same_name or (other is not target and "dir" not in (kind, other_kind)) or kind != other_kind:
        raise NoRoom(f"{other.entry.key!r} and {target.entry.key!r} cannot both be restored here; nothing was written")


def _fold(name: bytes) -> bytes:
    """The name as the usual file system of this machine compares it."""
    if sys.platform != "darwin":
        return name
    return unicodedata.normalize("NFC", name.decode()).casefold().encode()
