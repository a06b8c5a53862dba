"""Proving a store: the memory map's identity, and blocks that open."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import islice

from .entries import under
from .errors import AnthillError
from .index import MasterIndex
from .session import Session
from .settings import DOWNLOAD_WINDOW
from .summaries import CheckReport, Problem
from .values import Block

Job = tuple[str, int, Block]  # key, chunk, block


def check(session: Session, prefix: str, *, read_data: bool, sample: float | None, seed: int | None) -> CheckReport:
    """Prove the index and the map; with ``read_data`` or ``sample`` (percent) read and open blocks too."""
    with session.questioning() as quiet:
        problems = [Problem("map", detail, pad=pad) for pad, detail in session.allocator.check(compare=quiet)]
    index = session.index()
    chosen = seed if seed is not None else random.SystemRandom().getrandbits(32)
    jobs = _sampled(_jobs(index, prefix), sample, random.Random(chosen))
    count, found = _read(session, jobs) if read_data or sample is not None else (0, [])
    return CheckReport((*problems, *found), count, None if sample is None else chosen)


def _jobs(index: MasterIndex, prefix: str) -> Iterator[Job]:
    for key, value in sorted(index.values.items()):
        if under(prefix, key):
            yield from ((key, chunk, block) for chunk, block in enumerate(value.blocks()))


def _sampled(jobs: Iterator[Job], sample: float | None, chance: random.Random) -> Iterator[Job]:
    return jobs if sample is None else (job for job in jobs if chance.random() * 100 < sample)


def _read(session: Session, jobs: Iterator[Job]) -> tuple[int, list[Problem]]:
    """Open every block, a bounded window at a time; what a newer put replaced meanwhile is no problem."""
    count, problems = 0, []
    while window := list(islice(jobs, DOWNLOAD_WINDOW)):
        futures: list[tuple[Job, Future[bytes]]] = [(job, _submit(session, job)) for job in window]
        for job, future in futures:
            problem = _problem(session, job, future)
            count += 1
            problems += [problem] if problem else []
    return count, problems


def _submit(session: Session, job: Job) -> Future[bytes]:
    _, chunk, block = job
    return session.pipeline.download(lambda: session.downloader.open_block(chunk, block))


def _problem(session: Session, job: Job, future: Future[bytes]) -> Problem | None:
    key, chunk, block = job
    error = future.exception()
    if error is None:
        return None
    if not isinstance(error, AnthillError) or error.exit_code not in (65, 76):
        raise error
    current = session.index().values.get(key)
    if current is None or chunk >= current.chunks or next(current.range(chunk, chunk + 1))[1] != block:
        return None
    return Problem("block", f"chunk {chunk}: {error}", pad=block.pad, key=key)
