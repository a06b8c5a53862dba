"""Rates and timetables: what holds when, and what is not a rate."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import pytest

from anthill_sync.errors import ConfigurationError, InvalidArgument
from anthill_sync.settings import KIB, MIB, parse_duration, resolve, timetable

DAY = datetime(2026, 11, 21)


def at(text: str, hour: int, minute: int = 0, second: int = 0) -> tuple[int | None, float]:
    return timetable(text).at(DAY + timedelta(hours=hour, minutes=minute, seconds=second))


def test_one_rate_holds_all_day() -> None:
    for hour in (0, 12, 23):
        assert at("512KiB", hour) == at("512KiB/s", hour) == at("524288", hour) == (512 * KIB, math.inf)
        assert at("off", hour) == at("OFF", hour) == (None, math.inf)


def test_an_entry_holds_from_its_minute_to_the_next_one_and_the_last_one_over_midnight() -> None:
    table = "08:00,512KiB 12:30,1MiB 23:00,off"
    assert at(table, 8) == (512 * KIB, 4.5 * 3600)
    assert at(table, 12, 29, 59) == (512 * KIB, 1)
    assert at(table, 12, 30) == (MIB, 10.5 * 3600)
    assert at(table, 22, 59, 30) == (MIB, 30)
    assert at(table, 23) == (None, 9 * 3600)
    assert at(table, 0) == (None, 8 * 3600)
    assert at(table, 7, 59, 59) == (None, 1)


def test_every_minute_of_the_day_has_the_rate_of_the_last_entry_before_it() -> None:
    table = timetable("23:00,off 00:01,3 08:00,1KiB 08:01,2KiB")
    for minute in range(24 * 60):
        expected = next(
            (rate for start, rate in ((1380, None), (481, 2048), (480, 1024), (1, 3)) if minute >= start),
            None,  # yesterday's last entry
        )
        rate, left = table.at(DAY + timedelta(minutes=minute))
        assert rate == expected
        assert table.at(DAY + timedelta(minutes=minute, seconds=left - 1))[0] == expected
        assert table.at(DAY + timedelta(minutes=minute, seconds=left))[1] > 0


def test_a_single_entry_with_a_time_holds_all_day() -> None:
    assert at("08:00,1KiB", 3) == at("08:00,1KiB", 9) == (KIB, math.inf)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "fast", "-1", "0", "0KiB", "1.5MiB", "08:00", "08:00,", ",1KiB", "24:00,1KiB", "08:60,1KiB", "8:00,1KiB"),
        *("08:00,0", "08:00,1KiB 08:00,2KiB", "08:00,1KiB off", "08:00,1KiB;09:00,off", "1KiB 2KiB"),
    ],
)
def test_what_is_no_rate_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(InvalidArgument, match="write"):
        timetable(text)
    with pytest.raises(ConfigurationError, match="limit_upload"):
        resolve({}, {"limit_upload": text}, {})


@pytest.mark.parametrize("text", ["512KiB", "off", "08:00,512KiB 23:00,off", "23:00,off 08:00,1"])
def test_the_text_of_a_setting_means_the_same_again(text: str) -> None:
    kept = resolve({}, {"limit_download": text}, {}).limit_download
    assert kept is not None
    assert timetable(kept) == timetable(text)
    assert resolve({"limit_download": kept}, {}, {}).limit_download == kept


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("6h", 21600), ("1h30m", 5400), ("1d", 86400)])
def test_a_duration_has_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "6", "h", "6 h x", "-1h", "1.5h", "6hours"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_duration(text)
