"""Entries as fsspec's listings: a folder is there when a key lies below it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Any

from .entries import under
from .summaries import Entry

Info = dict[str, Any]  # what fsspec calls an info: name, size in bytes, type; of a value its version and times, too

_TYPES = {"dir": "directory", "link": "link"}  # what ``put -r`` stores besides files


def file_info(entry: Entry) -> Info:
    """Of a value. Versions do not change, so each is created when it is modified."""
    kind = _TYPES.get(entry.attributes.get("kind", ""), "file")
    times = {"created": entry.modified, "modified": entry.modified}
    return {"name": entry.key, "size": entry.size, "type": kind, "version": entry.version, **times}


def folder_info(name: str) -> Info:
    """Of what keys have in common."""
    return {"name": name, "size": 0, "type": "directory"}


def directly_below(entries: Iterable[Entry], folder: str) -> list[Info]:
    """What a listing of ``folder`` shows. A name that is a value and a folder at once is there as both: who walks through
    a tree looks at each of them."""
    found: dict[tuple[str, bool], Info] = {}
    skipped = len(folder) + 1 if folder else 0
    for entry in entries:
        head, deeper, _ = entry.key[skipped:].partition("/")
        name = entry.key[:skipped] + head
        if head:
            found.setdefault((name, bool(deeper)), folder_info(name) if deeper else file_info(entry))
    return [found[place] for place in sorted(found)]


def all_below(entries: Iterable[Entry], folder: str, maxdepth: int | None, folders: bool) -> dict[str, Info]:
    """Values at and below ``folder``, at most ``maxdepth`` parts below it, with the ``folders`` they lie in (those too that
    ``put -r`` stored empty)."""
    found: dict[str, Info] = {}
    for entry in entries:
        for name in _folders_of(entry.key, folder) if folders else ():
            found.setdefault(name, folder_info(name))
        info = file_info(entry)
        if folders or info["type"] != "directory":
            found[entry.key] = info
    wanted = (name for name in sorted(found) if maxdepth is None or _depth(name, folder) <= maxdepth)
    return {name: found[name] for name in wanted}


def _folders_of(key: str, folder: str) -> Iterable[str]:
    """The folders that ``key`` lies in, from ``folder`` on."""
    ways = accumulate(key.split("/")[:-1], "{}/{}".format)
    return (way for way in ways if under(folder, way))


def _depth(name: str, folder: str) -> int:
    """How many parts ``name`` lies below ``folder``."""
    return 0 if name == folder else name[len(folder) :].strip("/").count("/") + 1
