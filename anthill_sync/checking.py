"""Proving a store: index and files, the memory map's identity, blocks that open, pads that hold what they should."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile, zip_longest

from .entries import under
from .errors import AnthillError, Damaged, IndexDamaged, InvalidArgument, PadNotFound
from .index import MasterIndex, PadStatus
from .journal import Journal
from .lines import snapshot_lines
from .memory_map import Kind, MemoryMap
from .pads import UNKNOWN_DIGEST
from .recovery_scan import Found, look
from .reports import CheckReport, Problem
from .sealing import OVERHEAD, image_digest
from .session import Session
from .takeover import holds_all_live, map_of
from .values import Block

Job = tuple[str, int, Block]  # key, chunk, block

LOOKS = 3  # at files that another process keeps changing


@dataclass(frozen=True)
class CheckOptions:
    """What to read and open beyond the index and the map."""

    prefix: str = ""
    read_data: bool = False  # every block, and without a prefix every pad
    sample: float | None = None  # percent: a random share of the blocks
    seed: int | None = None  # of that share


def check(session: Session, options: CheckOptions) -> CheckReport:
    """Prove the index and the map, and what ``options`` say beyond."""
    sample = options.sample
    if sample is not None and not 0 <= sample <= 100:
        raise InvalidArgument(f"sample {sample} is not between 0 and 100 percent")
    chosen = options.seed if options.seed is not None else random.SystemRandom().getrandbits(32)
    shown = None if sample is None else chosen
    try:
        problems, index = list(local_problems(session)), session.index()
    except IndexDamaged as error:
        return CheckReport((Problem("index", str(error)),), 0, shown)
    jobs = _sampled(jobs_below(index, options.prefix), sample, random.Random(chosen))
    count, size, found = read_blocks(session, jobs) if options.read_data or sample is not None else (0, 0, [])
    pads = list(pad_problems(session)) if options.read_data and sample is None and not options.prefix else []
    return CheckReport((*problems, *found, *pads), count, shown, size)


# -- this machine


def local_problems(session: Session) -> Iterator[Problem]:
    """The map against itself and the index; the index in memory against the files as they are now."""
    yield from session.answer(lambda quiet: _map_problems(session, quiet))
    for pad, status in enumerate(session.index().status):
        if status == PadStatus.DAMAGED:
            yield Problem("pad", "is damaged and takes nothing more; 'anthill repair' empties it", pad=pad)


def _map_problems(session: Session, quiet: bool) -> list[Problem]:
    found = [Problem("map", detail, pad=pad) for pad, detail in session.allocator.check(compare=quiet)]
    if quiet and not _agrees_with_files(session):
        found.append(Problem("index", "the index in memory is not what the files say"))
    return found


def _agrees_with_files(session: Session) -> bool:
    """True also when another process changes the files at every look."""
    files = Journal(session.home)
    try:
        for _ in range(LOOKS):
            files.refresh()
            mine = session.index()
            if files.index.sequence == mine.sequence:
                return all(one == other for one, other in zip_longest(snapshot_lines(files.index), snapshot_lines(mine)))
    finally:
        files.close()
    return True


# -- blocks


def jobs_below(index: MasterIndex, prefix: str, first: str = "") -> Iterator[Job]:
    """Every block of the values at or below ``prefix``, in the order of their keys, from the key ``first`` on."""
    for key, value in sorted(index.values.items()):
        if key >= first and under(prefix, key):
            yield from ((key, chunk, block) for chunk, block in enumerate(value.blocks()))


def _sampled(jobs: Iterator[Job], sample: float | None, chance: random.Random) -> Iterator[Job]:
    return jobs if sample is None else (job for job in jobs if chance.random() * 100 < sample)


def open_blocks(session: Session, jobs: Iterable[Job]) -> Iterator[tuple[Job, AnthillError | None]]:
    """Read and open every block, a bounded window at a time; with each what is wrong with it. Failures of the network
    are raised: they say nothing about a block."""

    def attempt(job: Job) -> tuple[Job, AnthillError | None]:
        try:
            session.downloader.open_block(job[1], job[2])
        except (Damaged, PadNotFound) as error:
            return job, error
        return job, None

    return session.pipeline.ahead(jobs, attempt)


def read_blocks(
    session: Session, jobs: Iterator[Job], proved: Callable[[Job], object] = lambda job: None
) -> tuple[int, int, list[Problem]]:
    """Read and open them all: how many, how many plaintext bytes, and what is wrong. ``proved`` hears of each, in order."""
    count, size, problems = 0, 0, []
    for job, error in open_blocks(session, jobs):
        count, size = count + 1, size + job[2].length - OVERHEAD
        if error is not None and _is_current(session, job):
            problems.append(Problem("block", f"chunk {job[1]}: {error}", pad=job[2].pad, key=job[0]))
        proved(job)
    return count, size, problems


def _is_current(session: Session, job: Job) -> bool:
    """False for a block that a newer put replaced meanwhile, which is no problem."""
    key, chunk, block = job
    value = session.index().values.get(key)
    return value is not None and chunk < value.chunks and next(value.range(chunk, chunk + 1))[1] == block


# -- pads


def pad_problems(session: Session, first: int = 0, go_on: Callable[[int], bool] = lambda pad: True) -> Iterator[Problem]:
    """Header, table and counter of every pad against the index, and the image of every shared one against its digest; from
    the pad ``first`` on, while ``go_on`` says so of the next."""
    index = session.index()
    with session.journal.index_lock:
        memory_map = map_of(index, session.config.pad_size, session.settings.rewrite_limit)
        counters, in_doubt = index.counters[:], set(index.writing)
    numbers = range(first, memory_map.total)
    ours = (pad for pad in numbers if memory_map.kinds[pad] != Kind.UNRESERVED and pad not in in_doubt)
    for pad, wrong in session.pipeline.ahead(takewhile(go_on, ours), lambda pad: (pad, _wrong(session, index, memory_map, pad))):
        now = session.index().counters
        if wrong and now[pad] == counters[pad]:  # else it was written meanwhile
            yield Problem("pad", wrong, pad=pad)


def _wrong(session: Session, index: MasterIndex, memory_map: MemoryMap, pad: int) -> str:
    """What is wrong with one pad; nothing: ''."""
    if index.status[pad] == PadStatus.DAMAGED:
        return ""  # said already
    sight = look(session.pads, pad)
    if sight.found == Found.UNREADABLE:
        return sight.why
    if sight.counter != index.counters[pad]:
        return f"is {sight.found.name.lower()} with counter {sight.counter} on the network; the index has {index.counters[pad]}"
    if sight.table is not None and memory_map.kinds[pad] != Kind.FULL and not holds_all_live(memory_map, pad, sight.table):
        return "lacks a block or a manifest that the index says it holds"
    return image_problem(session, index, memory_map.kinds[pad], pad) if sight.found == Found.WRITTEN else ""


def image_problem(session: Session, index: MasterIndex, kind: int, pad: int) -> str:
    """Whether the image of a shared pad, which is read whole before it is written again, is the one that was sent."""
    digest = index.digest(pad)
    if kind != Kind.SHARED or digest == UNKNOWN_DIGEST:
        return ""
    if image_digest(session.pads.read_image(pad)[0]) == digest:
        return ""
    return "its image is not the one that was written"
