"""Events made visible: three stacked bars, a line now and then, JSON lines, or nothing.

The only user of tqdm, which is imported when the first bar is drawn. A reporter is a context
manager and the ``on_event`` callback of a mutation; ``transferred`` is the ``on_progress`` callback
of a get. Both belong to the calling thread. ``write`` may be called from any thread.

What a reporter prints is never worth failing for: a stream that cannot be written is left alone.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from .errors import InvalidArgument
from .render import human_size, json_line, printable

if TYPE_CHECKING:
    from typing_extensions import Self

    from .events import Event

MODES = ("auto", "bars", "plain", "json", "none")
ECHO_COLUMNS = 3  # kept free at the right: an echoed ^C that wraps would move the bars a line down
LINE_SECONDS = 60.0  # between two lines of ``plain``


class Silent:
    """Shows no progress; base of the others."""

    each_value = False  # whether it shows the end of every value, of which there may be very many

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: Event) -> None:
        """Take one event of a mutation."""

    def transferred(self, done: int, total: int) -> None:
        """Take the state of a get: ``done`` of ``total`` bytes."""

    def write(self, line: str) -> None:
        """Print a whole line (without its newline) that belongs to no bar."""
        with contextlib.suppress(OSError, ValueError):  # closed, or its reader went away
            self._stream.write(line + "\n")
            self._stream.flush()

    def pause(self) -> None:
        """Leave the screen clean for a question; the next event draws again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the report; safe to repeat."""


class JsonLines(Silent):
    """One object per event, ``"event"`` is the class name."""

    each_value = True

    def __call__(self, event: Event) -> None:
        self._line({"event": type(event).__name__, **vars(event)})

    def transferred(self, done: int, total: int) -> None:
        self._line({"event": "DownloadProgress", "bytes_read": done, "total_bytes": total})

    def _line(self, fields: dict[str, Any]) -> None:
        self.write(json_line(fields)[:-1])


class _Figures:
    """The latest state of every counter."""

    def __init__(self) -> None:
        self.reserved: tuple[int, int | None] = (0, 0)
        self.uploaded: tuple[int, int | None] = (0, None)
        self.confirmed: tuple[int, int | None] = (0, None)
        self.retries = 0
        self.last_error = ""

    def take(self, event: Event) -> None:
        from . import events  # here: their classes take 6 ms to make, and most commands report nothing

        if isinstance(event, events.ReservingScratchpads):
            self.reserved = (self.reserved[0], event.needed)
        elif isinstance(event, events.ReservationProgress):
            self.reserved = (event.current, event.total)
        elif isinstance(event, events.StartingUpload):
            self.uploaded = (self.uploaded[0], event.total_bytes)
        elif isinstance(event, events.UploadProgress):
            self.uploaded = (event.bytes_written, event.total_bytes)
        elif isinstance(event, events.ScratchpadCommitComplete):
            self.confirmed = (event.index, event.total)
        elif isinstance(event, events.RetryScheduled):
            self.retries += 1
            self.last_error = printable(event.error)


class Lines(Silent):
    """A line at most every 60 seconds, and one at the end if anything happened."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._printed = clock()
        self._figures = _Figures()
        self._text = ""

    def __call__(self, event: Event) -> None:
        self._figures.take(event)
        self._show(_sentence(self._figures))

    def transferred(self, done: int, total: int) -> None:
        self._show(f"downloaded {_bytes_of((done, total))}")

    def _show(self, text: str) -> None:
        self._text = text
        if self._clock() - self._printed >= LINE_SECONDS:
            self._print()

    def _print(self) -> None:
        if self._text:
            self.write(self._text)
        self._text, self._printed = "", self._clock()

    def close(self) -> None:
        self._print()


def _sentence(figures: _Figures) -> str:
    parts = [f"uploaded {_bytes_of(figures.uploaded)}", f"confirmed {_count_of(figures.confirmed)} pads"]
    if figures.reserved[1]:
        parts.insert(0, f"reserved {_count_of(figures.reserved)} pads")
    if figures.retries:
        parts.append(f"retries {figures.retries}, last: {figures.last_error}")
    return ", ".join(parts)


def _bytes_of(state: tuple[int, int | None]) -> str:
    done, total = state
    return human_size(done) + ("" if total is None else f" of {human_size(total)}")


def _count_of(state: tuple[int, int | None]) -> str:
    done, total = state
    return str(done) + ("" if total is None else f" of {total}")


def _bar_class() -> Any:
    from tqdm.std import tqdm

    class Bar(tqdm):  # type: ignore[type-arg, unused-ignore]
        """A bar without the monitor thread, and with a lock that costs no shared semaphore."""

        monitor_interval = 0

        @property
        def format_dict(self) -> dict[str, Any]:
            shape = dict(super().format_dict)
            if shape["ncols"]:
                shape["ncols"] = max(shape["ncols"] - ECHO_COLUMNS, 1)
            return shape

    Bar.set_lock(threading.RLock())
    return Bar


class Bars(Silent):
    """Reservation, Upload and Confirmed on three lines; gone when closed, whatever the reason."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._figures = _Figures()
        self._kind: Any = None
        self._bars: list[Any] = []
        self._lines: deque[str] = deque()  # written by other threads, printed by the calling one
        self._owner = threading.get_ident()

    def __call__(self, event: Event) -> None:
        self._figures.take(event)
        with contextlib.suppress(OSError, ValueError):
            self._draw_mutation()

    def _draw_mutation(self) -> None:
        if not self._bars:
            self._open("Reservation", "Upload", "Confirmed")
        self._drain()
        figures = self._figures
        for bar, state in zip(self._bars, (figures.reserved, figures.uploaded, figures.confirmed), strict=True):
            _move(bar, state)
        if figures.retries:
            self._bars[1].set_postfix_str(f"retries {figures.retries}: {figures.last_error[:40]}", refresh=False)

    def transferred(self, done: int, total: int) -> None:
        with contextlib.suppress(OSError, ValueError):
            if not self._bars:
                self._open("Download")
            self._drain()
            _move(self._bars[0], (done, total))

    def _open(self, *names: str) -> None:
        if self._kind is None:
            self._kind = _bar_class()
        for line, name in enumerate(names):
            self._bars.append(self._new_bar(name, line))

    def _new_bar(self, name: str, line: int) -> Any:
        in_bytes = name in ("Upload", "Download")
        unit = {"unit": "B", "unit_scale": True, "unit_divisor": 1024} if in_bytes else {"unit": "pad"}
        return self._kind(
            desc=f"{name:<11}",
            total=None,
            position=line,
            file=self._stream,
            leave=False,
            dynamic_ncols=True,
            mininterval=0,
            **unit,
        )

    def write(self, line: str) -> None:
        if self._bars and threading.get_ident() != self._owner:
            self._lines.append(line)
        else:
            self._write_above(line)

    def _write_above(self, line: str) -> None:
        if not self._bars:
            super().write(line)
            return
        with contextlib.suppress(OSError, ValueError):
            self._kind.write(line, file=self._stream)

    def _drain(self) -> None:
        while self._lines:
            self._write_above(self._lines.popleft())

    def pause(self) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._drain()
            while self._bars:
                self._bars.pop().close()  # from the last line up, so the cursor ends where it began
                if not self._bars and self._stream.isatty():
                    self._stream.write("\r\x1b[J")  # what the terminal echoed beside the bars
                    self._stream.flush()
        self._bars = []


def _move(bar: Any, state: tuple[int, int | None]) -> None:
    """Show ``state`` at once: no timer would draw it later, and a draw per pad costs little (0.1 ms)."""
    done, total = state
    changed = bar.total != total
    bar.total = total
    bar.update(done - bar.n)
    if changed:
        bar.refresh()


def reporter(mode: str, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> Silent:
    """The reporter for ``--progress mode``; ``auto`` is bars on a terminal that can draw them, else silence."""
    if mode not in MODES:
        raise InvalidArgument(f"not a way to show progress: {mode!r}; one of {', '.join(MODES)}")
    if mode == "bars" or (mode == "auto" and stream.isatty() and os.environ.get("TERM") != "dumb"):
        return Bars(stream)
    if mode == "plain":
        return Lines(stream, clock)
    return JsonLines(stream) if mode == "json" else Silent(stream)
