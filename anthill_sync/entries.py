"""Keys, and what the index says about them as the public dataclasses. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from .errors import InvalidArgument, KeyNotFound
from .index import MasterIndex
from .late import Late
from .values import Pending, Value

if TYPE_CHECKING:
    from . import summaries
else:  # who only lists keys makes none of them
    summaries = Late("summaries")

MAX_KEY = 1024  # bytes of UTF-8
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")  # Unicode's category Cc, which is complete for ever
_EMPTY_PARTS = frozenset(("", ".", ".."))


def check_key(key: object) -> str:
    """``key`` itself; ``InvalidArgument`` says what a key is when it is none."""
    if not isinstance(key, str):
        raise InvalidArgument(f"a key is a str, not {type(key).__name__}")
    reason = _fault(key)
    if reason:
        raise InvalidArgument(f"not a key: {key[:80]!r} {reason}")
    return key


def _fault(key: str) -> str | None:
    try:
        size = len(key.encode("utf-8"))
    except UnicodeEncodeError:
        return "is not UTF-8"
    if not 1 <= size <= MAX_KEY:
        return f"has {size} bytes; 1 to {MAX_KEY} are allowed"
    if _CONTROL.search(key):
        return "has a control character"
    if not _EMPTY_PARTS.isdisjoint(key.split("/")):
        return "begins or ends with '/', or has an empty, '.' or '..' part"
    return None


def check_prefix(prefix: str) -> str:
    """A prefix is '' (everything) or a key."""
    return prefix and check_key(prefix.removesuffix("/"))


def under(prefix: str, key: str) -> bool:
    """True for the key itself and all keys below it; '' means all."""
    return not prefix or key == prefix or key.startswith(prefix + "/")


def value_of(index: MasterIndex, key: str) -> Value:
    """The published value, or ``KeyNotFound``."""
    value = index.values.get(key)
    if value is None:
        hint = "; it has an interrupted put: finish it with resume" if key in index.pending_uploads else ""
        raise KeyNotFound(f"no such key: {key!r}{hint}", key=key)
    return value


def entry_of(key: str, value: Value, transfer: summaries.Transfer | None = None) -> summaries.Entry:
    """The public view of a value."""
    return summaries.Entry(
        key, value.size, value.version, moment(value.modified), value.pads(), dict(value.attributes or {}), transfer
    )


def detail_of(key: str, value: Value) -> summaries.Entry:
    """The same with every block's place."""
    blocks = tuple(summaries.BlockPlace(chunk, *block.extent) for chunk, block in enumerate(value.blocks()))
    entry = entry_of(key, value)
    return summaries.Entry(key, entry.size, entry.version, entry.modified, entry.pads, entry.attributes, None, blocks)


def pending_of(key: str, pending: Pending) -> summaries.Pending:
    """The public view of an interrupted put."""
    source = pending.source.get("path") if pending.source else None
    return summaries.Pending(key, pending.blocks.done(), pending.total, source, moment(pending.started))


def moment(nanoseconds: int) -> datetime:
    """An aware UTC datetime from nanoseconds since 1970."""
    return datetime.fromtimestamp(nanoseconds / 1e9, tz=timezone.utc)
