"""What commands print: the JSON shapes that scripts rely on, and listings for people."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .reports import CheckReport, DrillReport, Problem, RecoveryReport, Usage
    from .summaries import Entry, Pending


FORMAT = 1  # of every JSON object on stdout; fields are added, never removed or renamed


def printable(text: str) -> str:
    """``text`` on one line, without anything a terminal would obey or a UTF-8 stream would refuse."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    if unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def json_line(fields: Mapping[str, Any]) -> str:
    """One JSON object on one line, in ASCII, so that any locale and any file name is safe."""
    return json.dumps(fields, default=str) + "\n"


def human_size(size: int | float) -> str:
    """``4.0 MiB``; whole bytes below 1 KiB."""
    value, unit = float(size), ""
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}" if unit else f"{int(value)} B"


def human_duration(seconds: float) -> str:
    """``26.5 hours``, in the largest unit of which there is at least two; ``45 seconds``."""
    value, unit = seconds, "seconds"
    for size, larger in ((60, "minutes"), (3600, "hours"), (86400, "days")):
        if seconds < 2 * size:
            break
        value, unit = seconds / size, larger
    return f"{value:.0f} {unit}" if unit == "seconds" else f"{value:.1f} {unit}".replace(".0 ", " ")


def plural(count: int, noun: str) -> str:
    """``1 pad``, ``2 pads``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def timestamp(moment: datetime) -> str:
    """ISO 8601, UTC, always with microseconds."""
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


# -- JSON shapes


def entry_fields(entry: Entry) -> dict[str, Any]:
    """One element of ``ls --json``."""
    return {
        "key": entry.key,
        "size": entry.size,
        "version": entry.version,
        "modified": timestamp(entry.modified),
        "pads": entry.pads,
    }


def stat_fields(entry: Entry) -> dict[str, Any]:
    """``stat --json``: an element of ``ls`` with attributes and blocks."""
    blocks = [{"chunk": b.chunk, "pad": b.pad, "offset": b.offset, "length": b.length} for b in entry.blocks or ()]
    return {**entry_fields(entry), "attributes": dict(entry.attributes), "blocks": blocks}


def put_fields(entry: Entry) -> dict[str, Any]:
    """``put --json``. Values that were put together share what was moved, so each names the whole."""
    moved = entry.transfer
    return {
        "key": entry.key,
        "size": entry.size,
        "version": entry.version,
        "pads_written": moved.pads_written if moved else 0,
        "pads_reserved": moved.pads_reserved if moved else 0,
        "bytes_sent": moved.bytes_sent if moved else 0,
        "seconds": round(moved.seconds, 6) if moved else 0.0,
    }


def got_fields(entry: Entry, seconds: float) -> dict[str, Any]:
    """``get --json``."""
    return {"key": entry.key, "size": entry.size, "version": entry.version, "seconds": round(seconds, 6)}


def pending_fields(pending: Pending) -> dict[str, Any]:
    """One element of ``ls --pending --json``."""
    return {"key": pending.key, "done": pending.done, "total": pending.total, "source": pending.source}


def usage_fields(usage: Usage) -> dict[str, Any]:
    """``usage --json``."""
    return {
        "pads": dict(vars(usage.pads)),
        "bytes": dict(vars(usage.bytes)),
        "keys": usage.keys,
        "network": usage.network,
        "slot": usage.slot,
        "facts": dict(usage.facts),
    }


def _problem_fields(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    return [{"kind": p.kind, "pad": p.pad, "key": p.key, "detail": p.detail} for p in problems]


def drill_fields(report: DrillReport) -> dict[str, Any]:
    """``drill --json``."""
    return {**vars(report), "problems": _problem_fields(report.problems), "opened": list(report.opened)}


def check_fields(report: CheckReport) -> dict[str, Any]:
    """``check --json``."""
    since = None if report.since is None else timestamp(report.since)
    return {
        "problems": _problem_fields(report.problems),
        "blocks_read": report.blocks_read,
        "bytes_read": report.bytes_read,
        "seed": report.seed,
        "complete": report.complete,
        "since": since,
    }


def recovery_fields(report: RecoveryReport) -> dict[str, Any]:
    """``recover --json``, ``repair --json``."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(report).items()}


# -- listings


def long_listing(entries: Iterable[Entry]) -> str:
    """``ls -l``: size, version, time, pads, key."""
    rows = [(str(e.size), str(e.version), timestamp(e.modified), str(e.pads), e.key) for e in entries]
    return _columns(rows)


def in_columns(names: Sequence[str], width: int) -> str:
    """``names`` in as many columns as a line of ``width`` characters holds, downwards first; a longer name stands alone."""
    if not names:
        return ""
    widths = [shown_width(name) for name in names]
    rows = next(
        (
            rows
            for count in range(min(len(names), width // 3 + 1), 1, -1)
            if _fits(widths, rows := -(-len(names) // count), width)
        ),
        len(names),
    )
    columns = [max(widths[i : i + rows]) + 2 for i in range(0, len(names), rows)]
    lines = []
    for row in range(rows):
        cells = zip(names[row::rows], widths[row::rows], columns, strict=False)
        lines.append("".join(name + " " * (column - size) for name, size, column in cells).rstrip(" "))
    return "\n".join(lines) + "\n"


def _fits(widths: Sequence[int], rows: int, width: int) -> bool:
    return sum(max(widths[i : i + rows]) + 2 for i in range(0, len(widths), rows)) - 2 <= width


def shown_width(text: str) -> int:
    """Columns that a terminal takes for it."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) or unicodedata.category(c) == "Cf" else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def pending_listing(pending: Iterable[Pending]) -> str:
    """``ls --pending``: done/total chunks, since when, key, source."""
    rows = [
        (f"{p.done}/{'?' if p.total is None else p.total}", timestamp(p.started), f"{p.key}  {printable(p.source or '-')}")
        for p in pending
    ]
    return _columns(rows)


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Right-aligned columns, the last one as it is."""
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    shape = "  ".join(f"%{width}s" for width in widths) + "  %s\n"
    return "".join(shape % row for row in rows)


def stat_listing(entry: Entry) -> str:
    """``stat``: everything known about one value."""
    lines = [f"{name}: {value}" for name, value in entry_fields(entry).items()]
    lines += [f"{printable(str(name))}: {printable(str(value))}" for name, value in entry.attributes.items()]
    lines += [f"block {b.chunk}: pad {b.pad}, offset {b.offset}, {b.length} bytes" for b in entry.blocks or ()]
    return "\n".join(lines) + "\n"


def usage_listing(usage: Usage) -> str:
    """``usage``: counts, one per line."""
    pads, size = usage.pads, usage.bytes
    facts = ", ".join(f"{name} {_fact(value)}" for name, value in usage.facts.items())
    return (
        f"keys: {usage.keys}\n"
        f"pads: {pads.total} total, {pads.used} used, {pads.free} free ({pads.reserved} never written)\n"
        f"stored: {size.stored} bytes ({human_size(size.stored)})\n"
        f"live: {size.live} bytes ({human_size(size.live)})\n"
        f"free: {size.free} bytes ({human_size(size.free)})\n"
        f"gaps: {size.gaps} bytes ({human_size(size.gaps)})\n"
        f"network: {printable(usage.network)}, slot {usage.slot}\n"
        f"facts: {printable(facts)}\n"
    )


def _fact(value: Any) -> str:
    return "/".join(map(str, value)) or "none" if isinstance(value, (list, tuple)) else str(value)


def check_listing(report: CheckReport | DrillReport) -> str:
    """``check``, ``drill``: a line per problem; nothing when there is none."""
    return "".join(f"{problem_line(problem)}\n" for problem in report.problems)


def problem_line(problem: Problem) -> str:
    """One thing that is wrong, and where."""
    place = problem.kind if problem.pad is None else f"{problem.kind}, pad {problem.pad}"
    where = place if problem.key is None else f"{place}, key {problem.key}"
    return f"{where}: {printable(problem.detail)}"
