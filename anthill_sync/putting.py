"""``put_many``, of which ``put`` and ``resume`` are cases: sources, question, one operation, entries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import summaries
from .entries import check_key, entry_of, pending_of
from .errors import AnthillError, InvalidArgument, KeyExists, KeyNotFound, OperationCancelled, PadLimitExceeded, PutFailed
from .events import Confirm, ConfirmReservation, OnEvent
from .index import MasterIndex
from .operation import Operation
from .session import Session
from .sources import Source, open_source
from .summaries import Entry, ResumeReport, Transfer
from .uploads import Upload

Attributes = Mapping[str, Mapping[str, Any]]
OnSourceError = Callable[[str, AnthillError], object]


@dataclass(frozen=True)
class PutOptions:
    """How to put."""

    if_absent: bool = False
    confirm: Confirm | None = None
    on_event: OnEvent | None = None
    max_pads: int | None = None
    attributes: Attributes | None = None  # by key
    on_source_error: OnSourceError | None = None
    max_duration: float | None = None  # seconds, from the call on


def put_many(session: Session, items: Mapping[str, Any] | Iterable[tuple[str, Any]], options: PutOptions) -> dict[str, Entry]:
    """Store many values as one operation; each is published on its own."""
    if options.max_pads is not None and options.max_pads < 0:
        raise InvalidArgument(f"max_pads {options.max_pads} is negative")
    ends = _end_of(options.max_duration)
    sources = _sources(items, options.on_source_error)
    try:
        return session.mutate(sources, lambda index: _put(session, index, sources, options, ends))
    finally:
        for source in sources.values():
            source.close()


def estimate(session: Session, sizes: Mapping[str, int | None], options: PutOptions) -> ConfirmReservation:
    """The question that a put of values of these sizes (None: a stream) would ask now. Takes no lock, changes nothing."""
    if options.if_absent:
        _check_absent(session.index(), sizes)
    needed, question = session.answer(lambda quiet: _estimate(session, sizes, options))
    if options.max_pads is not None and needed > options.max_pads:
        raise PadLimitExceeded(f"{needed} pads would have to be reserved and --max-pads allows {options.max_pads}")
    return question


def _estimate(session: Session, sizes: Mapping[str, int | None], options: PutOptions) -> tuple[int, ConfirmReservation]:
    operation, planner = Operation(), session.allocator.planner
    uploads: list[Upload] = []
    try:
        for key, size in sizes.items():
            uploads.append(planner.plan(operation, check_key(key), size, (options.attributes or {}).get(key)))
        return planner.needed(uploads), question_for(session, uploads, options.max_pads)
    finally:
        planner.forget(uploads)


def _sources(items: Mapping[str, Any] | Iterable[tuple[str, Any]], on_error: OnSourceError | None) -> dict[str, Source]:
    sources: dict[str, Source] = {}
    for key, value in items.items() if isinstance(items, Mapping) else items:
        if check_key(key) in sources:
            raise InvalidArgument(f"the key {key!r} is named twice")
        try:
            sources[key] = open_source(value)
        except AnthillError as error:
            if on_error is None:
                raise
            on_error(key, error)
    return sources


def _end_of(max_duration: float | None) -> float | None:
    if max_duration is None:
        return None
    if not max_duration >= 0:
        raise InvalidArgument(f"max_duration {max_duration} is no number of seconds")
    return time.monotonic() + max_duration


def _put(
    session: Session, index: MasterIndex, sources: Mapping[str, Source], options: PutOptions, ends: float | None
) -> dict[str, Entry]:
    if options.if_absent:
        _check_absent(index, sources)
    operation = Operation(options.on_event, options.max_pads, _guarded(session, options.on_source_error), ends)
    limited = options.confirm or options.on_event or options.max_pads is not None or options.max_duration is not None
    operation.reserves_ahead = not limited
    planner, attributes = session.allocator.planner, options.attributes or {}
    uploads: list[Upload] = []
    try:
        for key, source in sources.items():
            uploads.append(planner.plan(operation, key, source.size, attributes.get(key)))
            uploads[-1].source = source
        _ask(session, operation, uploads, options)
        with session.operating(operation):
            session.allocator.writer.write_all(operation, uploads, start=True)
    except AnthillError as error:
        error.published = _entries(index, uploads, operation)
        _explain(error, index, uploads)
        raise
    finally:
        planner.forget(uploads)
    session.allocator.rewriter.rewrite_left_over()
    return _entries(index, uploads, operation)


def _guarded(session: Session, on_error: OnSourceError | None) -> OnSourceError | None:
    """The callback, which also workers call, kept from changing the Store: on a worker it would wait for itself as well."""
    if on_error is None:
        return None

    def call(key: str, error: AnthillError) -> None:
        session.inside(lambda: on_error(key, error))

    return call


def _explain(error: AnthillError, index: MasterIndex, uploads: list[Upload]) -> None:
    """Say how much of an unfinished put is stored and that it can be resumed."""
    left = [upload.key for upload in uploads if not upload.done and upload.key in index.pending_uploads]
    if not isinstance(error, PutFailed) or len(left) != 1:
        return
    key, pending = left[0], index.pending_uploads[left[0]]
    done, total = pending.blocks.done(), pending.total
    error.message += f"; {done} of {'?' if total is None else total} chunks are stored, the same put goes on from there"
    error.context = {"key": key, **error.context, "done": done, "total": total, "resume": True}


def _check_absent(index: MasterIndex, keys: Iterable[str]) -> None:
    taken = [key for key in keys if key in index.values]
    if taken:
        raise KeyExists(f"{taken[0]!r} has a value already", key=taken[0])


def _entries(index: MasterIndex, uploads: list[Upload], operation: Operation) -> dict[str, Entry]:
    seconds = time.monotonic() - operation.started
    transfer = Transfer(operation.written, operation.reserved, operation.bytes_sent, seconds)
    return {upload.key: entry_of(upload.key, index.values[upload.key], transfer) for upload in uploads if upload.done}


def _ask(session: Session, operation: Operation, uploads: list[Upload], options: PutOptions) -> None:
    """Nothing is reserved before the question is answered; the pad limit is part of the answer."""
    need = _need(session, uploads, options.max_pads)
    if not need[0] or (options.confirm is None and options.on_event is None):
        return  # without the summary that the question has: it looks at every pad
    question = _question(session, uploads, need)
    operation.deliver_now(question)
    if options.confirm is not None and not options.confirm(question):
        raise OperationCancelled(f"{question.needed} pads would have to be reserved, and the answer was no")


def _need(session: Session, uploads: list[Upload], max_pads: int | None) -> tuple[int, int]:
    """Pads to reserve at most, and if no chunk that is there already has changed."""
    planner = session.allocator.planner
    exact, most = planner.needed(uploads), planner.at_most(uploads)
    return (max(most, max_pads or 1) if any(upload.streamed for upload in uploads) else most), exact


def question_for(session: Session, uploads: list[Upload], max_pads: int | None) -> ConfirmReservation:
    """The question for these plans. A stream's need is not known: it is what ``max_pads`` allows, else one pad."""
    return _question(session, uploads, _need(session, uploads, max_pads))


def _question(session: Session, uploads: list[Upload], need: tuple[int, int]) -> ConfirmReservation:
    allocator, (needed, exact) = session.allocator, need
    streamed = any(upload.streamed for upload in uploads)
    free_pads, total_pads, free_bytes = allocator.free_space()
    return ConfirmReservation(
        needed=needed,
        at_most=streamed or needed > exact,
        needed_bytes=needed * allocator.pad_size,
        free_pads=free_pads,
        total_pads=total_pads,
        free_bytes=free_bytes,
        data_size=None if streamed else sum(upload.size or 0 for upload in uploads),
        estimated_cost=None,
    )


def reserve(session: Session, count: int, *, confirm: Confirm | None, on_event: OnEvent | None) -> int:
    """Reserve ``count`` pads ahead of need; how many were reserved."""
    if count < 0:
        raise InvalidArgument(f"cannot reserve {count} pads")
    return session.mutate((), lambda _: _reserve(session, count, confirm, on_event))


def _reserve(session: Session, count: int, confirm: Confirm | None, on_event: OnEvent | None) -> int:
    operation = Operation(on_event)
    bytes_needed = count * session.allocator.pad_size
    question = ConfirmReservation(count, False, bytes_needed, *session.allocator.free_space(), 0, None)
    operation.deliver_now(question)
    if confirm is not None and not confirm(question):
        raise OperationCancelled(f"{count} pads were not reserved: the answer was no")
    with session.operating(operation):
        session.allocator.writer.run(operation, lambda: session.allocator.supply.reserve_ahead(operation, count))
    return operation.reserved


def resume(
    session: Session,
    keys: Iterable[str],
    *,
    confirm: Confirm | None,
    on_event: OnEvent | None,
    max_duration: float | None = None,
) -> ResumeReport:
    """Finish interrupted puts whose source file can be read; the others are named."""
    index = session.index()
    wanted = list(keys) or sorted(index.pending_uploads)
    missing = [key for key in wanted if key not in index.pending_uploads]
    if missing:
        raise KeyNotFound(f"no interrupted put of {missing[0]!r}", key=missing[0])
    known = {key: pending_of(key, index.pending_uploads[key]) for key in wanted}
    left: list[summaries.Pending] = [pending for pending in known.values() if pending.source is None]
    attributes = {key: index.pending_uploads[key].attributes or {} for key in known}
    items = [(key, Path(pending.source)) for key, pending in known.items() if pending.source is not None]
    options = PutOptions(
        confirm=confirm,
        on_event=on_event,
        attributes=attributes,
        on_source_error=lambda key, _: left.append(known[key]),
        max_duration=max_duration,
    )
    entries = put_many(session, items, options) if items else {}
    return ResumeReport(tuple(entries.values()), tuple(sorted(left, key=lambda pending: pending.key)))
