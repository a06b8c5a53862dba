"""Saved runs, and how a later one compares: in ratios and in counts, which another machine gives too, never in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

from .figures import Figure

TOLERANCE = 1.25  # a shared machine's ratios vary by less than this between two runs, mostly
TIMES = ("s", "ms", "/s")


def comparable(figure: Figure) -> float | None:
    """The number that another run can be compared with; None for a time that nothing stands beside."""
    if figure.ratio is not None:
        return figure.ratio
    return None if figure.unit in TIMES else median(figure.samples)


def save(figures: list[Figure], path: Path) -> None:
    """Keep what can be compared."""
    kept = {figure.name: number for figure in figures if (number := comparable(figure)) is not None}
    path.write_text(json.dumps({"format": 1, "figures": kept}, indent=1) + "\n", encoding="utf-8")


def compare(figures: list[Figure], path: Path) -> list[str]:
    """A line for each figure that is worse than in the saved run by more than ``TOLERANCE``."""
    before: dict[str, float] = json.loads(path.read_text("utf-8"))["figures"]
    lines = []
    for figure in figures:
        now, then = comparable(figure), before.get(figure.name)
        if now is not None and then is not None and _worse(figure, now, then):
            lines.append(f"WORSE: {figure.name}: {then:.3g} then, {now:.3g} now")
    return lines


def _worse(figure: Figure, now: float, then: float) -> bool:
    if figure.at_least is not None:
        return now * TOLERANCE < then
    return now > then * TOLERANCE
