"""Arguments and options that several commands have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from . import cli_limits
from .progress import MODES


def key_text(text: str) -> str:
    """A key as it was typed: its bytes must be UTF-8, whatever the locale."""
    try:
        return os.fsencode(text).decode()
    except UnicodeDecodeError:
        raise typer.BadParameter("the key is not UTF-8") from None


KeyName = Annotated[str, typer.Argument(metavar="KEY", parser=key_text)]
Option = tuple[str, Any, Any]  # parameter, annotation, default
COMMON: tuple[Option, ...] = (
    ("home", Annotated[Path | None, typer.Option("--home", metavar="DIR", help="The store's directory (ANTHILL_HOME).")], None),
    ("quiet", Annotated[bool, typer.Option("-q", "--quiet", help="Errors only.")], False),
    ("verbose", Annotated[int, typer.Option("-v", "--verbose", count=True, help="More words; may be repeated.")], 0),
    ("log_file", Annotated[Path | None, typer.Option("--log-file", metavar="FILE", help="Append a log to FILE.")], None),
    (
        "passphrase_file",
        Annotated[Path | None, typer.Option("--passphrase-file", metavar="FILE", help="Its first line opens the key.")],
        None,
    ),
    (
        "passphrase_command",
        Annotated[str | None, typer.Option("--passphrase-command", metavar="COMMAND", help="What it prints opens the key.")],
        None,
    ),
)
EXTRA: dict[str, Option] = {
    "metrics": (
        "metrics_file",
        Annotated[Path | None, typer.Option("--metrics-file", metavar="FILE", help="Write how it ended, for Prometheus.")],
        None,
    ),
    "ping": (
        "ping",
        Annotated[str | None, typer.Option("--ping", metavar="URL", help="Tell a monitor: URL/start, then URL/CODE.")],
        None,
    ),
    "lock": (
        "lock_wait",
        Annotated[float | None, typer.Option("--lock-wait", metavar="SECONDS", min=0, help="Wait for another run to end.")],
        None,
    ),
    "json": ("as_json", Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")], False),
    "progress": ("progress", Annotated[str, typer.Option("--progress", metavar="MODE", help=", ".join(MODES) + ".")], "auto"),
    "yes": ("yes", Annotated[bool, typer.Option("-y", "--yes", help="Answer yes to the question.")], False),
    "max_pads": (
        "max_pads",
        Annotated[int | None, typer.Option("--max-pads", metavar="N", min=0, help="Reserve at most N pads.")],
        None,
    ),
    **cli_limits.OPTIONS,
}
