"""Measurements of small values, of changes, and of processor time; goals stand beside what they bound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .figures import Figure, Samples, alternately
from .processes import run, work
from .servers import serving
from .small_work import LATENCY

MIB = 1024**2
VALUES = 10_000
SINGLES = 200
CALLS = 1_000  # puts by many threads
CALLERS = (1, 10, 20, 40)
PADS = 1_000
PAD_MIB = 4


def _repeated(rounds: int, answer: Callable[[], dict[str, Any]]) -> dict[str, Samples]:
    """The samples of every number that ``answer`` gives."""
    answers = [answer() for _ in range(rounds)]
    return {name: tuple(float(each[name]) for each in answers) for name in answers[0]}


def values(scratch: Callable[[], Any], rounds: int) -> list[Figure]:
    """Many values in one ``put_many``, and one at a time, in the embedded directory."""

    def many() -> dict[str, Any]:
        with scratch() as folder:
            return work("many", folder / "home", VALUES)

    def single() -> dict[str, Any]:
        with scratch() as folder:
            return work("single", folder / "home", SINGLES)

    together, alone = _repeated(rounds, many), _repeated(rounds, single)
    four, three = (tuple(times * each + 0.001 for each in alone["fsync"]) for times in (4, 3))
    return [
        Figure(f"put_many of {VALUES:,} values of 1 KiB", "s", together["seconds"], 0.7),
        Figure("their pads", "MiB", tuple(each / MIB for each in together["pads"]), 12),
        Figure("the whole home then", "MiB", tuple(each / MIB for each in together["home"]), 16),
        Figure("an append of 300 bytes with its fsync", "ms", _milli(alone["fsync"])),
        Figure("put of 1 KiB; ratio to 4 fsyncs + 1 ms", "ms", _milli(alone["put"]), 1, _milli(four)),
        Figure(
            "put of 1 KiB while another keeps the lock; ratio to 3 fsyncs + 1 ms", "ms", _milli(alone["beside"]), 1, _milli(three)
        ),
        Figure("get of 1 KiB", "ms", _milli(alone["get"]), 0.5),
    ]


def _milli(samples: Samples) -> Samples:
    return tuple(each * 1000 for each in samples)


def callers(scratch: Callable[[], Any], rounds: int) -> list[Figure]:
    """Many threads that put small values over a network where every call takes 100 ms."""

    def puts(count: int, threads: int) -> Callable[[], float]:
        def action() -> float:
            with scratch() as folder:
                return count / float(work("threads", folder / "home", count, threads)["seconds"])

        return action

    rates = alternately(rounds, *(puts(CALLS if threads >= 20 else 50 * threads, threads) for threads in CALLERS))
    per_thread = [tuple(rate / threads for rate in samples) for threads, samples in zip(CALLERS, rates, strict=True)]
    rows = [
        Figure(
            f"puts of 1 KiB per second, {threads} calling threads, {LATENCY * 1000:.0f} ms latency", "/s", samples, at_least=goal
        )
        for threads, samples, goal in zip(CALLERS, rates, (None, None, 150, None), strict=True)
    ]
    scaled = Figure("the same per thread, 40 threads beside 1", "/s", per_thread[-1], base=per_thread[0], at_least=0.85)
    return [*rows, scaled]


def far(scratch: Callable[[], Any], rounds: int) -> list[Figure]:
    """A put of many new pads where reserving takes 50 ms and writing 100 ms; and with calls that fail now and then."""

    def put(*arguments: Any) -> Callable[[], float]:
        def action() -> float:
            with scratch() as folder:
                return float(work(arguments[0], folder / "home", PADS, *arguments[1:])["seconds"])

        return action

    best: Samples = (0.05 + PADS / 20 * 0.1,)
    with_repeats: Samples = (best[0] + 0.1,)
    calm, failing = alternately(rounds, put("slow", 16 * 1024, "0.05", "0.1"), put("failing", "0.01"))
    return [
        Figure(f"put of {PADS:,} new pads, slow network; ratio to the least possible", "s", calm, 1.05, best),
        Figure("the same, 1 % of the calls fail once; ratio to one round more", "s", failing, 1.05, with_repeats),
    ]


def update(folder: Path, rounds: int, mib: int) -> list[Figure]:
    """A file put again with one byte changed, next to its fingerprints alone."""
    source = folder / "source"
    run("dd", "if=/dev/urandom", f"of={source}", "bs=1M", f"count={mib}", "status=none")
    numbers = iter(range(10**6))
    found = _repeated(rounds, lambda: _removed(folder / f"home-{next(numbers)}", lambda home: work("changed", home, source)))
    return [
        Figure(f"fingerprints of {mib} MiB, 20 threads", "s", found["fingerprints"]),
        Figure(f"put again of {mib} MiB with one byte changed", "s", found["seconds"], 1.3, found["fingerprints"]),
        Figure("pads it sent", "pads", found["pads"], 2),
    ]


def _removed(home: Path, answer: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    try:
        return answer(home)
    finally:
        run("rm", "-rf", home)


def processor(folder: Path, rounds: int, mib: int) -> list[Figure]:
    """Processor time per pad of a whole put to a pad server, next to the least that it can be."""
    source = folder / "source"
    run("dd", "if=/dev/urandom", f"of={source}", "bs=1M", f"count={mib}", "status=none")
    pads, numbers = mib / PAD_MIB, iter(range(10**6))
    with serving(folder / "data") as server:

        def bare() -> float:
            return float(work("bare_processor", server.url, source)["seconds"]) * 1000 / pads

        def put() -> float:
            return float(work("put_processor", folder / f"home-{next(numbers)}", source, server.url)["seconds"]) * 1000 / pads

        plain, puts = alternately(rounds, bare, put)
    return [
        Figure("processor time per 4 MiB pad, bare requests, AES-GCM and two BLAKE3 passes", "ms", plain),
        Figure("processor time per 4 MiB pad, put to a pad server", "ms", puts, 1.3, plain),
    ]
