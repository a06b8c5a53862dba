"""``repair``: prove everything, rebuild the index where it must be, then take what can be read off damaged pads and empty
them. Whatever is wrong is told before anything changes; killed at any moment, it is finished by running it again."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from .checking import image_problem
from .index import MasterIndex, PadStatus
from .memory_map import WHOLE_PAD
from .operation import Operation
from .recovery import State, Tell, look, prove, put_in_place
from .recovery_index import Rebuilt
from .recovery_scan import Found
from .reports import Problem, RecoveryReport
from .session import Session
from .sources import StoredSource
from .takeover import map_of
from .uploads import Upload
from .values import Value


def repair(session: Session, tell: Tell) -> RecoveryReport:
    """Mend the store. ``tell`` hears of everything that is wrong before anything is changed."""
    report, rewrites_left = session.replace(lambda: _mend_index(session, tell))
    if not report.damaged_pads and not (report.changed and rewrites_left):
        return report
    return _mend_pads(session, report)


def _mend_index(session: Session, tell: Tell) -> tuple[RecoveryReport, bool]:
    state = look(session)
    if state.witness.damage is not None:
        tell(Problem("index", state.witness.damage))
    rebuilt = prove(session, state, tell)
    _distrust_images(session, state, rebuilt, tell)
    _tell_of_losses(state, rebuilt, tell)
    report = put_in_place(session, state, rebuilt)
    return report, bool(rebuilt.index.to_rewrite)


def _distrust_images(session: Session, state: State, rebuilt: Rebuilt, tell: Tell) -> None:
    """Forget the digest of a shared image that is not the one that was sent, though all that lives in it opens: with it,
    no put could ever write that pad again."""
    index = rebuilt.index
    kinds = map_of(index, session.config.pad_size, WHOLE_PAD).kinds
    pads = [pad for pad, status in enumerate(index.status) if status == PadStatus.COMMITTED]
    for pad, wrong in session.pipeline.ahead(pads, lambda pad: (pad, image_problem(session, index, kinds[pad], pad))):
        if wrong:
            tell(Problem("pad", wrong, pad=pad))
            index.digests[pad * 16 : pad * 16 + 16] = bytes(16)
            rebuilt.same = False


def _tell_of_losses(state: State, rebuilt: Rebuilt, tell: Tell) -> None:
    for pad in rebuilt.damaged:
        absent = state.found.found[pad] == Found.ABSENT
        tell(Problem("pad", state.found.why.get(pad, "is not there" if absent else "lacks a manifest"), pad=pad))
    for pad in rebuilt.rolled_back:
        tell(Problem("pad", "is older than this store left it; what it holds counts from now on", pad=pad))
    for key in rebuilt.older:
        tell(Problem("lost", "the newest version is not whole; an older one takes its place", key=key))
    for key in rebuilt.lost:
        tell(Problem("lost", "no version is whole; the key is dropped", key=key))


# -- the pads


def _mend_pads(session: Session, report: RecoveryReport) -> RecoveryReport:
    """Take every value off the damaged pads, then empty them; then take dead manifests off the network."""
    away = frozenset(pad for pad, status in enumerate(session.index().status) if status == PadStatus.DAMAGED)
    keys = [key for key, value in list(session.index().values.items()) if _is_on(value, away)]

    def mend(index: MasterIndex) -> tuple[list[str], list[int]]:
        abandoned = [key for key in keys if key in index.pending_uploads]
        _move(session, index, keys, away)
        operation = Operation()
        with session.operating(operation):
            session.allocator.rewriter.empty_damaged(operation, sorted(away))
        session.allocator.rewriter.rewrite_left_over()
        return abandoned, [pad for pad in away if index.status[pad] == PadStatus.DAMAGED]

    abandoned, left = session.mutate(keys, mend)
    emptied = tuple(sorted(away.difference(left)))
    return replace(
        report,
        changed=True,
        moved=tuple(sorted(keys)),
        abandoned=tuple(sorted(abandoned)),
        emptied_pads=emptied,
        damaged_pads=tuple(sorted(left)),
    )


def _is_on(value: Value, pads: Container[int]) -> bool:
    return value.manifest_pad in pads or any(block.pad in pads for block in value.blocks())


def _move(session: Session, index: MasterIndex, keys: list[str], away: Container[int]) -> None:
    """Put the values again, without the chunks that lie elsewhere."""
    operation = Operation()
    uploads: list[Upload] = []
    for key in keys:
        value = index.values.get(key)
        if value is not None:  # else another process removed it just now
            uploads.append(session.allocator.planner.plan_move(operation, key, value, away))
            uploads[-1].source = _stored(session, value)
    with session.operating(operation):
        session.allocator.writer.write_all(operation, uploads, start=True)


def _stored(session: Session, value: Value) -> StoredSource:
    """The bytes of a published value, chunk by chunk."""
    chunk_size, pads = session.config.chunk_size, session.pads

    def read(offset: int, buffer: memoryview) -> memoryview:
        chunk = offset // chunk_size
        block = next(value.range(chunk, chunk + 1))[1]
        pads.sealer.open_block_into(block.data_id, chunk, pads.read_extent(block.extent), buffer)
        return buffer

    return StoredSource(value.size, read)
