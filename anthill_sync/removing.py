"""Taking values away and renaming them: first in the journal, then on the network.

A value that is removed is gone for this store with its durable record. What the network still holds of it (old
manifests, dead pads) is rewritten before the command returns, and named in ``to_rewrite`` until it is: else a
recovery from the pads alone would find the value again.
"""

from __future__ import annotations

from collections.abc import Iterable

from .entries import check_key, entry_of, under, value_of
from .errors import AnthillError, InvalidArgument, KeyExists, KeyNotFound, RewriteFailed
from .events import OnEvent
from .index import MasterIndex
from .operation import Operation
from .session import Session
from .summaries import Entry
from .takeover import spans
from .uploads import Rename
from .values import Extent, Span, origin_id


def delete(session: Session, keys: Iterable[str], *, ignore_missing: bool) -> list[str]:
    """Remove values, all or none, with their interrupted puts; the keys that were there. With ``ignore_missing`` a key
    that only has an interrupted put loses that."""
    wanted = [check_key(key) for key in dict.fromkeys(keys)]

    def remove(index: MasterIndex) -> list[str]:
        if not ignore_missing:
            for key in wanted:
                value_of(index, key)
        found = [key for key in wanted if key in index.values or key in index.pending_uploads]
        _take_away(session, index, "remove", found)
        return found

    return session.mutate(wanted, remove)


def delete_prefix(session: Session, prefix: str) -> list[str]:
    """Remove the key and all keys below it, all or none, with their interrupted puts. Keys that are put meanwhile stay."""
    index = session.index()
    keys = [key for key in sorted({*index.values, *index.pending_uploads}) if under(prefix, key)]
    return delete(session, keys, ignore_missing=True)


def abandon(session: Session, keys: Iterable[str]) -> list[str]:
    """Give interrupted puts up (all of them when none is named) and free their pads; their keys."""
    wanted = [check_key(key) for key in keys] or sorted(session.index().pending_uploads)

    def give_up(index: MasterIndex) -> list[str]:
        missing = [key for key in wanted if key not in index.pending_uploads]
        if missing:
            raise KeyNotFound(f"no interrupted put of {missing[0]!r}", key=missing[0])
        _take_away(session, index, "abandon", wanted)
        return wanted

    return session.mutate(wanted, give_up)


def _take_away(session: Session, index: MasterIndex, record: str, keys: list[str]) -> None:
    if not keys:
        return
    values = record == "remove"
    extents = [extent for key in keys for extent in _extents(index, key, values=values)]
    manifests = [pad for key in keys for pad in index.manifest_pads(key) if values or _is_stale(index, key, pad)]
    rewriter, rewrites = session.allocator.rewriter, _rewrites(session)
    unseen = rewriter.look(extents, manifests) if rewrites and values else None
    pads = rewriter.dead_pads(extents, manifests) if rewrites else []
    if rewrites and not index.pending_uploads.keys().isdisjoint(keys):
        pads = sorted({*pads, *rewriter.left_over()})
    session.allocator.free([[record, keys, pads]])
    rewrite(session, pads, "removed" if values else "given up", failed=unseen)


def _extents(index: MasterIndex, key: str, *, values: bool) -> list[Extent]:
    pending = index.pending_uploads.get(key)
    found = [block.extent for _, block in pending.blocks.blocks()] if pending else []
    if values and key in index.values:
        found += [block.extent for block in index.values[key].blocks()]
    return found


def _is_stale(index: MasterIndex, key: str, pad: int) -> bool:
    return any(stale == pad for stale, _ in index.stale.get(key, ()))


def _rewrites(session: Session) -> bool:
    """Where every write is paid, old manifests are left on the network."""
    return not session.network.properties.write_is_paid


def rewrite(
    session: Session, pads: list[int], what: str, on_event: OnEvent | None = None, *, failed: AnthillError | None = None
) -> None:
    """Rewrite pads now, unless the network has ``failed`` already; ``RewriteFailed`` says that the change itself is made."""
    error, rewriter = failed, session.allocator.rewriter
    if error is None:
        error = rewriter.rewrite(pads, on_event) if pads else None
        rewriter.rewrite_left_over()
    if error is not None:
        left = len(session.journal.index.to_rewrite)
        raise RewriteFailed(
            f"{what}, but {left} pads on the network still hold old names or data; later runs will try again: {error}"
        ) from error


def rename(session: Session, old: str, new: str, *, force: bool) -> Entry:
    """Give a value another name: its new manifest first, then one record, then the old manifests."""
    if check_key(old) == check_key(new):
        raise InvalidArgument(f"{old!r} and {new!r} are the same key")
    return session.mutate([old, new], lambda index: _rename(session, index, old, new, force=force))


def _rename(session: Session, index: MasterIndex, old: str, new: str, *, force: bool) -> Entry:
    value = value_of(index, old)
    if new in index.values and not force:
        raise KeyExists(f"{new!r} has a value already; --force replaces it", key=new)
    pads = sorted(index.manifest_pads(old)) if _rewrites(session) else []
    operation = Operation()
    version = session.allocator.planner.next_version()
    names = spans(value) or [Span(origin_id(value.version), 0, 0)]
    upload = Rename(operation, old, new, value, version=version, spans=names, rewrite=pads)
    upload.replaces = index.values.get(new)
    with session.operating(operation):
        session.allocator.write_manifest(upload, len(names))
    rewrite(session, pads, f"renamed to {new!r}")
    return entry_of(new, index.values[new])


def trim(session: Session, on_event: OnEvent | None) -> int:
    """Empty all free pads on the network; how many."""

    def empty(index: MasterIndex) -> int:
        pads = session.allocator.rewriter.not_blank()
        session.allocator.rewriter.mark(pads)
        rewrite(session, pads, "trimmed in part", on_event)
        return sum(bool(index.blank[pad]) for pad in pads)

    return session.mutate((), empty)
