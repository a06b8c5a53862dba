"""``docs/reliability.rst``: the figures, the machine, and how to make both again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchlib.page import machine

from .figures import MUST_HOLD, Part, Row

TITLE = "Reliability"
PHASES = ("before", "torn", "after")
SHORT_FORM = """
**This was a short form**, as it runs with the tests every day: fewer cases than the campaigns have in full.
"""


def page(rows: list[Row], folder: Path) -> str:
    """The whole page. ``folder``: on the file system where the stores were."""
    short = any(row.short for row in rows)
    return f"""{"=" * len(TITLE)}
{TITLE}
{"=" * len(TITLE)}

This page is made by a script, never by hand: ``scripts/reliability{" --short" if short else ""}``. A *campaign* does harm to
stores in one way, many times over, and looks each time whether what is promised holds. A *case* is one harm done and
looked into, a *violation* one after which the promise did not hold.
{SHORT_FORM if short else ""}
{table(("campaign", "must hold", "cases", "kinds", "violations", "seconds"), [summary(row) for row in rows])}
{"".join(section(row) for row in rows if row.parts)}

The machine
===========

{"".join(f"* {name}: {value}{chr(10)}" for name, value in machine(folder))}

To make them again
==================

::

   scripts/reliability                      # everything in full; one to two hours on two cores
   scripts/reliability --short              # the short forms, a few minutes
   scripts/reliability --report FOLDER      # leave the figures, one JSON file for each part
   scripts/reliability --continue FOLDER    # what was stopped, or violated and mended; the page names those parts
   scripts/reliability --seed N             # every campaign with the same seed
   scripts/test tests/faults/test_power_loss.py --long --seed N

Exit code 1: a campaign was not run, or met fewer cases than it should, or found a violation. The seconds are those of one
core; parts of campaigns run at once.
"""


def summary(row: Row) -> Sequence[object]:
    if not row.parts:
        return row.name, MUST_HOLD[row.name], "not run", "", "", ""
    must_hold = MUST_HOLD.get(row.name, "")
    return row.name, must_hold, f"{row.cases:,}", len(row.counts), row.violations, f"{row.seconds:,.0f}"


def _in_one_line(violation: str) -> str:
    """An assertion's text has many, and quotes that would end the literal it is shown as."""
    return " ".join(violation.replace("``", "''").split())


def section(row: Row) -> str:
    """One campaign: its parts, its notes, what was violated, and for kills the hits of each point."""
    heading = ("part", "cases", "kinds", "violations", "seconds", "seed")
    parts = table(heading, [cells(part) for part in row.parts])
    notes = list(dict.fromkeys(_in_one_line(note) for part in row.parts for note in part.notes))
    violations = [f"**violated**: ``{_in_one_line(violation)}``" for part in row.parts for violation in part.violations]
    lines = "".join(f"* {text}\n" for text in [*notes, *violations])
    return f"\n\n{row.name}\n{'=' * len(row.name)}\n\n{parts}{lines and chr(10) + lines}{hits(row)}"


def cells(part: Part) -> Sequence[object]:
    return part.name or "all", f"{part.cases:,}", len(part.counts), len(part.violations), f"{part.seconds:,.0f}", part.seed


def hits(row: Row) -> str:
    """How often each point was hit: before its effect, half-way through it, after it."""
    counts = row.counts
    points = sorted({name.partition("|")[0] for name in counts if "|" in name})
    if row.name != "kill -9" or not points:
        return ""
    rows = [(point, *(counts.get(f"{point}|{phase}", "") for phase in PHASES)) for point in points]
    rows += [(name, "", "", count) for name, count in sorted(counts.items()) if "|" not in name]
    return "\nHits per point:\n\n" + table(("point", "before", "half-way", "after"), rows)


def table(heading: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [f"   :header: {line(heading)}", "", *(f"   {line(row)}" for row in rows)]
    return "\n".join([".. csv-table::", *lines]) + "\n"


def line(cells: Sequence[object]) -> str:
    return ", ".join('"' + str(cell).replace('"', '""') + '"' for cell in cells)
