"""Options that bound what a command may use of the network, of threads and of time."""

from __future__ import annotations

import time
from typing import Annotated, Any, Protocol

import typer

from .settings import parse_duration, timetable

THREADS = ("reserve_threads", "upload_threads", "download_threads")

OPTIONS: dict[str, tuple[str, Any, Any]] = {
    "limit_upload": (
        "limit_upload",
        Annotated[
            str | None, typer.Option("--limit-upload", metavar="RATE", help="Bytes a second; or '08:00,512KiB 23:00,off'.")
        ],
        None,
    ),
    "limit_download": (
        "limit_download",
        Annotated[str | None, typer.Option("--limit-download", metavar="RATE", help="Bytes per second, or a timetable.")],
        None,
    ),
    "threads": (
        "threads",
        Annotated[int | None, typer.Option("--threads", metavar="N", min=1, help="Of each kind; fewer need less memory.")],
        None,
    ),
    "max_duration": (
        "max_duration",
        Annotated[str | None, typer.Option("--max-duration", metavar="TIME", help="Stop after 90s, 30m or 6h, to be resumed.")],
        None,
    ),
}


class Bounded(Protocol):
    """What the command line said."""

    limit_upload: str | None
    limit_download: str | None
    threads: int | None
    max_duration: str | None
    began: float


def settings_of(bounds: Bounded) -> dict[str, Any]:
    """The settings that these options are."""
    rates = {"limit_upload": bounds.limit_upload, "limit_download": bounds.limit_download}
    for rate in filter(None, rates.values()):
        timetable(rate)  # a wrong word on the command line is no wrong configuration
    threads = dict.fromkeys(THREADS, bounds.threads)
    return {name: value for name, value in {**rates, **threads}.items() if value is not None}


def seconds_left(bounds: Bounded) -> float | None:
    """Seconds the command may still take; None: as long as it needs."""
    if bounds.max_duration is None:
        return None
    return max(0.0, parse_duration(bounds.max_duration) - (time.monotonic() - bounds.began))
