"""What was measured, and whether it meets its goal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

T = TypeVar("T")
Samples = tuple[float, ...]
DIGITS = {"s": 3, "ms": 2, "/s": 1, "MiB": 0, "bytes": 0, "modules": 0, "pads": 0, "requests": 2}


@dataclass(frozen=True)
class Figure:
    """One row of the table. ``goal``: the most that the median may be, or, with a ``base``, the most that it may be
    as a multiple of the base's median; ``at_least``: the same, the least. Neither: a row that others are compared with."""

    name: str
    unit: str
    samples: Samples
    goal: float | None = None
    base: Samples | None = None
    at_least: float | None = None

    @property
    def ratio(self) -> float | None:
        """Median over the base's median; None without a base."""
        return None if self.base is None else median(self.samples) / median(self.base)

    @property
    def missed(self) -> bool:
        """True when there is a goal and it is not met."""
        value = median(self.samples) if self.ratio is None else self.ratio
        too_much = self.goal is not None and value > self.goal
        return too_much or (self.at_least is not None and value < self.at_least)

    def _goal(self) -> str:
        unit = "x" if self.base else self.unit
        if self.at_least is not None:
            return f"at least {self.at_least:g} {unit}"
        return "" if self.goal is None else f"{self.goal:.3g} {unit}"

    def cells(self) -> tuple[str, str, str, str, str]:
        """Name, median, spread, ratio and goal as they are printed."""
        digits = DIGITS[self.unit]
        low, high = min(self.samples), max(self.samples)
        ratio = "" if self.ratio is None else f"{self.ratio:.2f} x"
        verdict = " MISSED" if self.missed else ""
        spread = f"{low:.{digits}f} to {high:.{digits}f}"
        return self.name, f"{median(self.samples):,.{digits}f} {self.unit}", spread, ratio, self._goal() + verdict


HEADINGS = ("what", "median", "spread", "ratio", "goal, at most")


def table(figures: list[Figure]) -> str:
    """All figures in aligned columns."""
    rows = [HEADINGS, *(figure.cells() for figure in figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"


def alternately(rounds: int, *actions: Callable[[], T]) -> list[tuple[T, ...]]:
    """Run the actions in turn, ``rounds`` times, so that a slow minute of the machine meets all of them alike; the
    samples of each."""
    samples: list[list[T]] = [[] for _ in actions]
    for _ in range(rounds):
        for action, collected in zip(actions, samples, strict=True):
            collected.append(action())
    return [tuple(collected) for collected in samples]
