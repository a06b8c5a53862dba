"""Rates by the time of day. Pure."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from .errors import InvalidArgument

OFF = "off"
_DAY = 24 * 60  # minutes
_HOW = "write a rate like 512KiB, off, or a timetable like '08:00,512KiB 23:00,off'"


@dataclass(frozen=True)
class Timetable:
    """What holds from which minute of the day on, in order; the last entry also until the first one. None: no limit."""

    entries: Sequence[tuple[int, int | None]]  # minute of the day, bytes per second

    def at(self, moment: datetime) -> tuple[int | None, float]:
        """Bytes per second that hold at this local time, and for how many seconds more."""
        minute = moment.hour * 60 + moment.minute
        position = bisect_right([start for start, _ in self.entries], minute) - 1  # -1 is the last one, from yesterday
        rate = self.entries[position][1]
        if len(self.entries) == 1:
            return rate, math.inf
        following = self.entries[(position + 1) % len(self.entries)][0]
        return rate, ((following - minute) % _DAY) * 60 - moment.second - moment.microsecond / 1e6

    def __str__(self) -> str:
        words = [(start, OFF if rate is None else str(rate)) for start, rate in self.entries]
        if len(words) == 1:
            return words[0][1]
        return " ".join(f"{start // 60:02}:{start % 60:02},{word}" for start, word in words)


def parse_timetable(text: str, parse_rate: Callable[[str], int]) -> Timetable:
    """The timetable in ``text``: one rate, or ``HH:MM,RATE`` several times; ``InvalidArgument`` says what to write."""
    words = text.split()
    if len(words) == 1 and "," not in text:
        return Timetable([(0, _rate(words[0], parse_rate))])
    entries = sorted((_entry(word, parse_rate) for word in words), key=lambda entry: entry[0])
    if not entries or len({start for start, _ in entries}) < len(entries):
        raise InvalidArgument(f"not a rate: {text!r}; {_HOW}, each time once")
    return Timetable(entries)


def _entry(word: str, parse_rate: Callable[[str], int]) -> tuple[int, int | None]:
    found = re.fullmatch(r"([01][0-9]|2[0-3]):([0-5][0-9]),(.+)", word)
    if found is None:
        raise InvalidArgument(f"not a time and a rate: {word!r}; {_HOW}")
    return int(found[1]) * 60 + int(found[2]), _rate(found[3], parse_rate)


def _rate(word: str, parse_rate: Callable[[str], int]) -> int | None:
    if word.lower() == OFF:
        return None
    rate = parse_rate(word)
    if not rate:
        raise InvalidArgument(f"a rate of 0 would stop everything for ever; {_HOW}")
    return rate
