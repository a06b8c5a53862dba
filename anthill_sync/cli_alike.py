"""Keys that may have been meant where there is none of that name."""

from __future__ import annotations

import difflib
from itertools import islice
from typing import TYPE_CHECKING

from .errors import AnthillError, KeyNotFound

if TYPE_CHECKING:
    from .store import Store

_COMPARED = 20_000  # keys at most: comparing takes about 20 microseconds for each
_NAMED = 3


def say_alike(error: KeyNotFound, store: Store) -> None:
    """Add up to three keys, or beginnings of keys, that look like the one that was not found."""
    key = error.context.get("key")
    if not isinstance(key, str):
        return
    try:
        found = alike(key, list(store))
    except AnthillError:
        return  # the first error is the one that matters
    if found:
        error.message += f"; did you mean {' or '.join(map(repr, found))}?"


def alike(key: str, keys: list[str]) -> list[str]:
    """The best first. Nothing when the key itself is there: then something else about it was not found."""
    if key in keys:
        return []
    names = dict.fromkeys(part for each in keys for part in (each, each.rpartition("/")[0]) if part)
    most = max(3, len(key) // 2)
    candidates = islice((name for name in names if abs(len(name) - len(key)) <= most), _COMPARED)
    folded: dict[str, str] = {}
    for name in candidates:
        folded.setdefault(name.casefold(), name)
    return [folded[each] for each in difflib.get_close_matches(key.casefold(), folded, _NAMED, 0.7)]
