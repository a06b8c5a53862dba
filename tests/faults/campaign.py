"""A campaign: many cases of one kind of fault, counted, with a seed that makes them again.

``with campaign("power loss", short=2000, long=20000) as run:`` prints its seed, counts what was done, keeps on after a
violation so that one run tells all, and fails at its end if there was one or if fewer cases were met than it promises.
With ``--report FOLDER`` it leaves its figures there, from which ``scripts/reliability`` writes ``docs/reliability.rst``.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
MOST_VIOLATIONS = 20  # after so many the rest teaches nothing


@dataclass
class Campaign:
    """``name``: the row of the report; several tests may add to one. ``goal``: how many cases there must be."""

    name: str
    part: str
    goal: int
    seed: int
    long: bool
    counts: Counter[str] = field(default_factory=Counter)  # cases by what was done
    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what else the report says
    _begun: float = field(default_factory=time.monotonic)

    def random(self, *part: object) -> random.Random:
        """A random source that depends on the seed and ``part`` alone."""
        return random.Random("/".join(map(str, (self.seed, *part))))

    @property
    def done(self) -> int:
        return self.counts.total()

    @contextmanager
    def case(self, kind: str, what: object = "") -> Iterator[None]:
        """One case; what it raises is a violation, told with ``what`` it was."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a campaign goes on after any failure, and tells of it at its end
            self.violation(f"{kind} {what}: {type(error).__name__}: {error}", error)
        self.counts[kind] += 1

    def violation(self, text: str, cause: Exception | None = None) -> None:
        """A promise was broken; ends the campaign when there are many."""
        self.violations.append(text)
        if len(self.violations) >= MOST_VIOLATIONS:
            raise AssertionError(f"{len(self.violations)} violations, the last: {text}") from cause

    def summary(self) -> str:
        """One line for people."""
        kinds = f" of {len(self.counts)} kinds" if len(self.counts) > 1 else ""
        part = f" ({self.part})" if self.part else ""
        return f"{self.name}{part}: {self.done} cases{kinds}, {len(self.violations)} violations, seed {self.seed}"

    def figures(self) -> dict[str, object]:
        """For the report."""
        return {
            "campaign": self.name,
            "part": self.part,
            "form": "long" if self.long else "short",
            "seed": self.seed,
            "goal": self.goal,
            "cases": self.done,
            "counts": dict(sorted(self.counts.items())),
            "violations": self.violations,
            "notes": self.notes,
            "seconds": round(time.monotonic() - self._begun, 1),
        }

    def save(self, folder: Path) -> None:
        """Leave the figures in ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file(folder).write_text(json.dumps(self.figures(), indent=1) + "\n", "utf-8")

    def is_done(self, folder: Path, where: str) -> bool:
        """Whether its figures are in ``folder`` already. Where they are missing, or tell of a violation or of too few cases,
        it is run, and the report says that this was later, ``where``, and why."""
        file = self._file(folder)
        before = _shortcomings(json.loads(file.read_bytes())) if file.exists() else ["it left no figures"]
        if before:
            self.notes.append(f"{self.part or self.name}: run later than the others, at {where}. Its first run: {before[0]}")
        return not before

    def _file(self, folder: Path) -> Path:
        name = f"{self.name} {self.part}".strip().replace(" ", "-").replace("/", "-")
        return folder / f"{name}.json"


def _shortcomings(figures: dict[str, Any]) -> list[str]:
    few = figures["cases"] < figures["goal"]
    return [*figures["violations"], *([f"{figures['cases']} cases of {figures['goal']}"] if few else [])]


def evenly(cases: list[T], kind: Callable[[T], str], wanted: int, chance: random.Random) -> list[T]:
    """So many of the cases, as evenly as can be from all kinds; which of a kind, chance says."""
    chance.shuffle(cases)
    turn: Counter[str] = Counter()
    turns: list[tuple[int, int]] = []
    for number, case in enumerate(cases):
        turn[kind(case)] += 1
        turns.append((turn[kind(case)], number))
    return [cases[number] for _, number in sorted(turns)[:wanted]]
