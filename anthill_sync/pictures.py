"""The memory map drawn: as characters for a terminal, and as SVG. Pure.

Both cut all bytes of all pads, in order, into cells of equal size, and show what each holds. Nothing that is in use is
ever shown as free, however small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from .render import human_size, plural
from .reports import ExtentRange, Usage, Use

TERMINAL_LINES = 8
_SVG_COLUMNS, _SVG_ROWS = 256, 64
_COLUMN, _ROW, _TOP = 4, 12, 28  # pixels

Cell = frozenset[Use]


class _Look(NamedTuple):
    """How a cell is shown."""

    words: str
    character: str
    ascii: str
    colour: str


_LIVE = _Look("live", "█", "#", "#2b6cb0")
_PARTLY = _Look("partly live", "▓", "+", "#90cdf4")
_PENDING = _Look("pending", "▚", "o", "#dd6b20")
_GAPS = _Look("gaps", "░", "-", "#a0aec0")
_FREE = _Look("free", "·", ".", "#e8f5e9")
_LOOKS = (_LIVE, _PARTLY, _PENDING, _GAPS, _FREE)


def _look(cell: Cell) -> _Look:
    if Use.PENDING in cell:
        return _PENDING
    if Use.LIVE in cell:
        return _LIVE if cell == {Use.LIVE} else _PARTLY
    return _GAPS if Use.GAP in cell else _FREE


def cells(ranges: Sequence[ExtentRange], count: int) -> Iterator[Cell]:
    """What the bytes of each of ``count`` equal parts are used for. Exact: cells end at whole bytes, none is lost."""
    total, begin, index, passed = sum(each.length for each in ranges), 0, 0, 0
    for number in range(1, count + 1):
        end, inside = number * total // count, set()
        while begin < end:
            inside.add(ranges[index].use)
            range_end = passed + ranges[index].length
            begin = min(end, range_end)
            if begin == range_end:
                passed, index = range_end, index + 1
        yield frozenset(inside)


def terminal_picture(usage: Usage, width: int, *, unicode: bool = True) -> str:
    """At most 8 lines of ``width`` characters, as many as there are pads, and what they mean; nothing without pads."""
    lines, width = min(TERMINAL_LINES, usage.pads.total), max(width, 1)
    if not lines:
        return ""
    looks = [_look(cell) for cell in cells(usage.ranges, lines * width)]
    drawn = "".join(look.character if unicode else look.ascii for look in looks)
    rows = "".join(f"|{drawn[i : i + width]}|\n" for i in range(0, len(drawn), width))
    legend = "  ".join(f"{look.character if unicode else look.ascii} {look.words}" for look in _LOOKS)
    return f"memory map of {plural(usage.pads.total, 'pad')}:\n{rows}{legend}\n"


def svg_picture(usage: Usage) -> str:
    """The same as an SVG document, more finely: a row per pad up to 64, no name and no key in it."""
    rows = max(1, min(_SVG_ROWS, usage.pads.total))
    looks = [_look(cell) for cell in cells(usage.ranges, rows * _SVG_COLUMNS)] if usage.ranges else []
    width, height = _SVG_COLUMNS * _COLUMN, _TOP + rows * _ROW + _TOP
    title = f"{plural(usage.pads.total, 'pad')}, {human_size(usage.bytes.live)} live, {human_size(usage.bytes.free)} free"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="sans-serif">',
        f"<title>Memory map: {title}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="0" y="18" font-size="14">Memory map: {title}</text>',
        *(rect for row in range(rows) for rect in _svg_row(looks[row * _SVG_COLUMNS : (row + 1) * _SVG_COLUMNS], row)),
        *(text for place, look in enumerate(_LOOKS) for text in _svg_legend(place, look, height)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _svg_row(looks: Sequence[_Look], row: int) -> Iterator[str]:
    """One rectangle for neighbouring cells that look alike."""
    column = 0
    for look, alike in groupby(looks):
        count = len(list(alike))
        yield (
            f'<rect x="{column * _COLUMN}" y="{_TOP + row * _ROW}" width="{count * _COLUMN}" height="{_ROW - 1}" '
            f'fill="{look.colour}"><title>{look.words}</title></rect>'
        )
        column += count


def _svg_legend(place: int, look: _Look, height: int) -> Iterator[str]:
    x, y = place * 120, height - 18
    yield f'<rect x="{x}" y="{y}" width="12" height="12" fill="{look.colour}"/>'
    yield f'<text x="{x + 18}" y="{y + 11}" font-size="13">{look.words}</text>'
