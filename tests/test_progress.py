"""progress.py: what people and programs see while a command runs."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable

import pyte
import pytest

from anthill_sync.console import Console, Report
from anthill_sync.errors import InvalidArgument
from anthill_sync.events import (
    ConfirmReservation,
    Event,
    ReservationProgress,
    ReservingScratchpads,
    RetryScheduled,
    ScratchpadCommitComplete,
    StartingUpload,
    StoreComplete,
    UploadProgress,
)
from anthill_sync.progress import Bars, JsonLines, Lines, Silent, reporter

MIB = 1024 * 1024
ADDRESS = "ab" * 32
EVENTS: list[Event] = [
    ReservingScratchpads(3),
    ConfirmReservation(3, False, 12 * MIB, 0, 5, 100, 9 * MIB, None),
    ReservationProgress(1, 3),
    StartingUpload(9 * MIB),
    UploadProgress(4 * MIB, 9 * MIB),
    ScratchpadCommitComplete(1, 3),
    RetryScheduled("write", ADDRESS, 2, 0.5, "timed\x1b[2Jout"),
    StoreComplete("key", 9 * MIB, 3, 1.5),
]


class Terminal(io.StringIO):
    """A stream that is drawn on an emulated screen."""

    def __init__(self) -> None:
        super().__init__()
        self.screen = pyte.Screen(100, 12)
        self._drawer = pyte.Stream(self.screen)

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._drawer.feed(text.replace("\n", "\r\n"))
        return len(text)

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display if line.strip()]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class BrokenStream(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def test_three_bars_on_three_lines_show_pads_bytes_and_pads() -> None:
    terminal = Terminal()
    with Bars(terminal) as bars:
        for event in EVENTS[:6]:
            bars(event)
        first, second, third = terminal.lines()
    assert first.startswith("Reservation")
    assert "1/3" in first
    assert second.startswith("Upload")
    assert "4.00M/9.00M" in second
    assert third.startswith("Confirmed")
    assert "1/3" in third


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt], ids=["success", "error", "ctrl-c"])
def test_bars_are_gone_however_the_command_ends(error: type[BaseException] | None) -> None:
    terminal = Terminal()
    terminal.write("before\n")

    def run() -> None:
        with Bars(terminal) as bars:
            for event in EVENTS[:6]:
                bars(event)
            assert len(terminal.lines()) == 4
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises(error):
            run()
    terminal.write("after")
    assert terminal.lines() == ["before", "after"]


def test_a_retry_is_shown_without_what_a_terminal_would_obey() -> None:
    terminal = Terminal()
    with Bars(terminal) as bars:
        for event in [*EVENTS[:7], UploadProgress(5 * MIB, 10 * MIB)]:
            bars(event)
        assert "retries 1: timed\\x1b[2Jout" in terminal.lines()[1]


def test_totals_that_rise_are_shown_at_once() -> None:
    terminal = Terminal()
    with Bars(terminal) as bars:
        bars(ScratchpadCommitComplete(1, 3))
        bars(ScratchpadCommitComplete(1, 4))
        assert "1/4" in terminal.lines()[2]


def test_a_stream_of_unknown_length_has_bars_too() -> None:
    terminal = Terminal()
    with Bars(terminal) as bars:
        bars(StartingUpload(None))
        bars(UploadProgress(MIB, None))
        assert len(terminal.lines()) == 3


def test_words_are_printed_above_the_bars_and_do_not_tear_them() -> None:
    terminal = Terminal()
    with Bars(terminal) as bars:
        bars(EVENTS[2])
        bars.write("some words")
        assert [line.split()[0] for line in terminal.lines()] == ["some", "Reservation:", "Upload", "Confirmed"]


def test_words_of_other_threads_wait_for_the_calling_thread() -> None:
    terminal = Terminal()
    with Bars(terminal) as bars:
        bars(EVENTS[2])
        thread = threading.Thread(target=bars.write, args=("from elsewhere",))
        thread.start()
        thread.join()
        assert "from elsewhere" not in "".join(terminal.lines())
        bars(EVENTS[3])
        assert terminal.lines()[0] == "from elsewhere"


def test_words_of_other_threads_are_not_lost_at_the_end() -> None:
    terminal = Terminal()
    with Bars(terminal) as bars:
        bars(EVENTS[2])
        thread = threading.Thread(target=bars.write, args=("late words",))
        thread.start()
        thread.join()
    assert terminal.lines() == ["late words"]


def test_the_screen_is_clean_while_a_question_is_asked() -> None:
    terminal = Terminal()
    with Bars(terminal) as bars:
        bars(EVENTS[0])
        bars.pause()
        assert terminal.lines() == []
        bars(EVENTS[2])
        assert "1/3" in terminal.lines()[0]


def test_a_download_has_one_bar_in_bytes() -> None:
    terminal = Terminal()
    with Bars(terminal) as bars:
        bars.transferred(2 * MIB, 8 * MIB)
        (line,) = terminal.lines()
        assert line.startswith("Download")
        assert "2.00M/8.00M" in line
    assert terminal.lines() == []


def test_bars_start_no_thread() -> None:
    before = set(threading.enumerate())
    with Bars(Terminal()) as bars:
        bars(EVENTS[2])
        assert set(threading.enumerate()) == before


def test_plain_prints_a_line_a_minute_and_one_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    with Lines(stream, clock) as lines:
        for event in EVENTS:
            lines(event)
        assert stream.getvalue() == ""
        clock.now = 60.0
        lines(UploadProgress(6 * MIB, 9 * MIB))
        clock.now = 119.0
        lines(UploadProgress(9 * MIB, 9 * MIB))
    first, last = stream.getvalue().splitlines()
    assert first == (
        "reserved 1 of 3 pads, uploaded 6.0 MiB of 9.0 MiB, confirmed 1 of 3 pads, retries 1, last: timed\\x1b[2Jout"
    )
    assert "uploaded 9.0 MiB of 9.0 MiB" in last


def test_plain_says_how_far_a_failed_command_came() -> None:
    stream = io.StringIO()

    def run() -> None:
        with Lines(stream, Clock()) as lines:
            lines(UploadProgress(MIB, None))
            raise ValueError

    with pytest.raises(ValueError):
        run()
    assert stream.getvalue() == "uploaded 1.0 MiB, confirmed 0 pads\n"


def test_plain_prints_nothing_where_nothing_happened() -> None:
    stream = io.StringIO()
    with Lines(stream, Clock()):
        pass
    assert stream.getvalue() == ""


def test_plain_tells_of_a_download() -> None:
    stream = io.StringIO()
    with Lines(stream, Clock()) as lines:
        lines.transferred(MIB, 2 * MIB)
    assert stream.getvalue() == "downloaded 1.0 MiB of 2.0 MiB\n"


def test_json_prints_every_event_as_one_object_with_its_class_name() -> None:
    stream = io.StringIO()
    with JsonLines(stream) as lines:
        for event in EVENTS:
            lines(event)
        lines.transferred(1, 2)
    objects = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert objects[:-1] == [{"event": type(event).__name__, **vars(event)} for event in EVENTS]
    assert objects[-1] == {"event": "DownloadProgress", "bytes_read": 1, "total_bytes": 2}


@pytest.mark.parametrize("kind", [Bars, Lines, JsonLines, Silent])
def test_a_closed_stderr_fails_nothing(kind: Callable[[io.StringIO], Silent]) -> None:
    stream = BrokenStream()
    with kind(stream) as report:
        for event in EVENTS:
            report(event)
        report.transferred(1, 2)
        report.write("words")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("mode", "stream", "kind"),
    [
        ("auto", Terminal(), Bars),
        ("auto", io.StringIO(), Silent),
        ("bars", io.StringIO(), Bars),
        ("plain", Terminal(), Lines),
        ("json", Terminal(), JsonLines),
        ("none", Terminal(), Silent),
    ],
)
def test_each_mode_has_its_reporter(mode: str, stream: io.StringIO, kind: type[Silent]) -> None:
    assert type(reporter(mode, stream)) is kind


def test_an_unknown_mode_is_a_usage_error() -> None:
    with pytest.raises(InvalidArgument, match="one of auto, bars, plain, json, none"):
        reporter("fancy", io.StringIO())


@pytest.mark.parametrize(("mode", "lines"), [("bars", 0), ("plain", 0), ("none", 0), ("json", 100)])
def test_the_end_of_each_of_many_values_draws_nothing_but_json(mode: str, lines: int) -> None:
    stream = io.StringIO()
    with reporter(mode, stream) as shown:
        report = Report(shown, Console())
        for number in range(100):
            report(StoreComplete(f"k{number}", 1, 1, 0.1))
    assert stream.getvalue().count("\n") == lines
    assert stream.getvalue().count("StoreComplete") == lines
