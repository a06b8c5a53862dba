"""Where the memory map is drawn: on the terminal, and into a file."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import durable
from .cli_output import is_terminal
from .errors import DestinationExists

if TYPE_CHECKING:
    from .console import Console
    from .reports import Usage


def draw(console: Console, usage: Usage) -> None:
    """The picture for a person; nothing where stdout is no terminal."""
    if not is_terminal(sys.stdout):
        return
    from .pictures import terminal_picture

    unicode = "utf" in (sys.stdout.encoding or "").lower()
    console.out(terminal_picture(usage, shutil.get_terminal_size().columns - 2, unicode=unicode))


def write_svg(path: Path, usage: Usage) -> None:
    """Put the picture in place of ``path``; ``DestinationExists`` where something else than a picture would be lost."""
    from .pictures import svg_picture

    if path.exists() and not _is_svg(path):
        raise DestinationExists(f"{path} is there and is no SVG picture: choose another name")
    durable.replace_file(path, svg_picture(usage).encode(), 0o644, suffix=f".{os.getpid()}.new")


def _is_svg(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(5) in (b"<svg ", b"<?xml", b"")
