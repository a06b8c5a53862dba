"""``drill``: proof that the key and the network alone give everything back.

What a recovery would do after the loss of the home is done in a temporary one, and its index compared with the live one.
Only reads: no lock is taken, and neither the live home nor the network is written. What other runs change meanwhile is
not compared.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .config import Config, read_config
from .creating import connect
from .errors import AnthillError, ConfigurationError, Damaged, InvalidArgument, PadNotFound
from .index import MasterIndex, PadStatus
from .networks import normalise_url
from .reader import Reader
from .recovery_home import make_from_pads
from .reports import DrillReport, Problem, RecoveryReport
from .session import Session
from .settings import CHUNK_MARGIN, MAX_PAD_SIZE
from .values import Value


@dataclass(frozen=True)
class _Live:
    """What the live index says at one moment."""

    values: dict[str, Value]
    unpublished: frozenset[str]  # keys of which the network holds manifests that are not the current value
    damaged: frozenset[int]  # pads that are known to be
    pads: int  # numbers that the network may know


def drill(session: Session, *, values: int, seed: int | None) -> DrillReport:
    """Rebuild in a temporary home, compare, and open ``values`` random values of what was rebuilt."""
    if values < 0:
        raise InvalidArgument(f"cannot open {values} values")
    chosen = seed if seed is not None else random.SystemRandom().getrandbits(32)
    before = _live(session)
    if not before.pads:
        return DrillReport((), 0, (), chosen, 0)
    with tempfile.TemporaryDirectory(prefix="anthill-drill-") as folder:
        home = Path(folder) / "home"
        try:
            report = _rebuild(session, home)
        except (ConfigurationError, Damaged, PadNotFound) as error:
            return DrillReport((Problem("drill", f"nothing can be rebuilt: {error}"),), 0, (), chosen, 0)
        with _opened(session, home) as rebuilt:
            return _judged(session, before, rebuilt, report, values, chosen)


def _live(session: Session) -> _Live:
    index = session.index()
    with session.journal.index_lock:
        damaged = frozenset(pad for pad, status in enumerate(index.status) if status == PadStatus.DAMAGED)
        return _Live(dict(index.values), frozenset((*index.stale, *index.pending_uploads)), damaged, index.pads)


def _rebuild(session: Session, home: Path) -> RecoveryReport:
    """From key, slot and URL; how large a pad is, the pads have to tell."""
    live = session.config
    url, key_path = normalise_url(live.network, session.home), str(live.key_path(session.home).absolute())
    wanted = Config(url, MAX_PAD_SIZE, MAX_PAD_SIZE - CHUNK_MARGIN, live.slot, {}, key_path, live.settings)
    return make_from_pads(home, wanted, session.key, session.settings, 0)


@contextmanager
def _opened(session: Session, home: Path) -> Iterator[Session]:
    config = read_config(home)
    network = connect(home, config, session.settings)
    rebuilt = Session(home, config, session.key, session.settings, network, lock_wait=0, read_only=True)
    try:
        yield rebuilt
    finally:
        rebuilt.close()


def _judged(session: Session, before: _Live, rebuilt: Session, report: RecoveryReport, values: int, seed: int) -> DrillReport:
    index, after = rebuilt.index(), _live(session)
    steady = sorted(key for key, value in before.values.items() if after.values.get(key) == value)
    problems = [Problem("pad", "cannot be read", pad=pad) for pad in report.damaged_pads if pad not in before.damaged]
    problems += _differences(before, after, index, steady)
    chosen = sorted(random.Random(seed).sample(steady, min(values, len(steady))))
    size, found = _open_values(session, rebuilt, before, [key for key in chosen if key in index.values])
    return DrillReport((*problems, *found), len(steady), tuple(chosen), seed, size)


def _differences(before: _Live, after: _Live, index: MasterIndex, steady: list[str]) -> Iterator[Problem]:
    for key in steady:
        wrong = _difference(before.values[key], index.values.get(key))
        if wrong:
            yield Problem("value", wrong, key=key)
    known = before.values.keys() | after.values.keys() | before.unpublished | after.unpublished
    yield from (
        Problem("value", "is rebuilt, and the live index does not have it", key=key) for key in index.values.keys() - known
    )


def _difference(live: Value, rebuilt: Value | None) -> str:
    """What is not as it should be; fingerprints are the live index's alone."""
    if rebuilt is None:
        return "is missing in what was rebuilt"
    if rebuilt.version != live.version:
        return f"has version {rebuilt.version} in what was rebuilt, and {live.version} in the live index"
    facts = [(v.size, v.modified, dict(v.attributes or {}), v.manifest_pad, v.chunks) for v in (live, rebuilt)]
    blocks = zip(live.blocks(), rebuilt.blocks(), strict=False)
    if facts[0] != facts[1] or any((a.extent, a.data_id) != (b.extent, b.data_id) for a, b in blocks):
        return "differs in what was rebuilt"
    return ""


def _open_values(session: Session, rebuilt: Session, before: _Live, keys: list[str]) -> tuple[int, list[Problem]]:
    """Read them whole: how many bytes, and what does not open. What was replaced meanwhile, and its space used again, is no
    problem."""
    reader, size, problems = Reader(rebuilt), 0, []
    with open(os.devnull, "wb") as nowhere:
        for key in keys:
            try:
                size += reader.into_stream(key, nowhere, offset=0, length=None, on_progress=None).size
            except AnthillError as error:
                if error.exit_code not in (Damaged.exit_code, 76):
                    raise
                if session.index().values.get(key) == before.values[key]:
                    problems.append(Problem("value", f"does not open from what was rebuilt: {error}", key=key))
    return size, problems
