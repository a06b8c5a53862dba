"""``recover`` and the first half of ``repair``: the index anew, from the pads and from what this machine still knows.

One way for both: look at all pads, read what is left of the index, rebuild, and put the result in place by a checkpoint
under the store's lock, the old files kept beside. Until its first rename nothing has changed; after it the new index is
what any opening finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .checking import Job, open_blocks
from .errors import Damaged, NetworkNotFound
from .memory_map import WHOLE_PAD
from .recovery_index import Rebuilt, blocks_of_missing, rebuild
from .recovery_scan import Found, Scan, chunk_sizes, scan
from .recovery_witness import Witness, read_witness
from .reports import Problem, RecoveryReport
from .session import Session
from .takeover import map_of

Tell = Callable[[Problem], object]


@dataclass
class State:
    """What is known before anything changes."""

    witness: Witness
    found: Scan


def recover(session: Session, found: Scan | None = None) -> RecoveryReport:
    """Rebuild the index from the pads; a sound one wins. ``found``: the pads, where they were looked at already."""
    return session.replace(lambda: _recover(session, found))


def _recover(session: Session, found: Scan | None) -> RecoveryReport:
    state = look(session, found)
    blocks = blocks_of_missing(state.witness, state.found)
    for _, chunk, block in blocks if state.witness.sound else _readable(session, blocks):
        state.found.places.setdefault(block.data_id, {}).setdefault(chunk, block.extent)
    rebuilt = rebuild(state.witness, state.found, rewrites=rewrites(session), give_up=False)
    return put_in_place(session, state, rebuilt)


def look(session: Session, found: Scan | None = None) -> State:
    """The pads and the witness. ``NetworkNotFound`` where there is not one pad: a disk that is not mounted must not be taken
    for one that lost everything. ``Damaged`` for pads of other chunks than the store's."""
    witness = read_witness(session.home, session.config.pad_size)
    found = found or scan(session.pads, session.pipeline, witness.pads)
    if found.pads == found.found.count(Found.ABSENT) and (witness.damage or any(witness.base.counters)):
        raise NetworkNotFound(
            f"no pad of this key in slot {session.config.slot} is on {session.config.network}; nothing was changed. "
            "Is it mounted, and are network, slot and key file the right ones?"
        )
    sizes = chunk_sizes(found) - {session.config.chunk_size}
    if sizes:
        raise Damaged(
            f"the pads were written with chunks of {sizes.pop()} bytes, and config.json says {session.config.chunk_size}: it is "
            "damaged; move it away, then run 'anthill recover --network URL --key-file FILE'"
        )
    return State(witness, found)


def rewrites(session: Session) -> bool:
    """Where writes are paid, dead manifests stay on the network."""
    return not session.network.properties.write_is_paid


def put_in_place(session: Session, state: State, rebuilt: Rebuilt) -> RecoveryReport:
    """Make the rebuilt index the store's, unless it is the one that is there. ``IndexDamaged`` before that, should it
    contradict itself."""
    map_of(rebuilt.index, session.config.pad_size, WHOLE_PAD)
    kept = [] if rebuilt.same else session.replace_index(rebuilt.index)
    return RecoveryReport(
        keys=tuple(sorted(rebuilt.index.values)),
        changed=not rebuilt.same,
        damage=state.witness.damage,
        lost=tuple(rebuilt.lost),
        older=tuple(rebuilt.older),
        damaged_pads=tuple(rebuilt.damaged),
        rolled_back_pads=tuple(rebuilt.rolled_back),
        pads=rebuilt.index.pads,
        kept=tuple(str(path) for path in kept),
    )


def prove(session: Session, state: State, tell: Tell) -> Rebuilt:
    """Rebuild, with every block of the result read and opened, and with every shared image compared with its digest; a
    version with a block that does not open is given up for an older one. Tells of all that is wrong."""
    witness, found = state.witness, state.found
    for _, chunk, block in _readable(session, blocks_of_missing(witness, found)):
        found.places.setdefault(block.data_id, {}).setdefault(chunk, block.extent)
    proved: dict[str, int] = {}  # key -> version
    while True:
        rebuilt = rebuild(witness, found, rewrites=rewrites(session), give_up=True)
        jobs = _unproved(rebuilt, proved)
        proved = {key: value.version for key, value in rebuilt.index.values.items()}
        bad = [(job, error) for job, error in open_blocks(session, jobs) if error is not None]
        for (key, chunk, block), error in bad:
            tell(Problem("block", f"chunk {chunk}: {error}", pad=block.pad, key=key))
            found.places[block.data_id].pop(chunk, None)
        if not bad:
            break
    return rebuilt


def _unproved(rebuilt: Rebuilt, proved: dict[str, int]) -> Iterable[Job]:
    for key, value in rebuilt.index.values.items():
        if proved.get(key) != value.version:
            yield from ((key, chunk, block) for chunk, block in value.range(0, value.chunks))


def _readable(session: Session, jobs: Iterable[Job]) -> Iterable[Job]:
    return (job for job, error in open_blocks(session, jobs) if error is None)
