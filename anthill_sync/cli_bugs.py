"""Where the traceback of an unexpected error goes, so that the terminal shows one line."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

LOG_NAME = "anthill.log"


def record_bug(error: BaseException, log_file: Path | None, home: Callable[[], Path]) -> Path:
    """Append the traceback to ``log_file``, else to ``anthill.log`` in the home, else to a new temporary
    file; returns the path. Only its owner may read a file made here."""
    text = "".join([f"{datetime.now(timezone.utc).isoformat()}\n", *traceback.format_exception(error)])
    try:
        path = log_file or home() / LOG_NAME
        _append(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), text)
        return path
    except Exception:  # noqa: BLE001  (whatever is broken, the traceback must not be lost)
        descriptor, name = tempfile.mkstemp(prefix="anthill-", suffix=".log")
        _append(descriptor, text)
        return Path(name)


def _append(descriptor: int, text: str) -> None:
    with open(descriptor, "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
