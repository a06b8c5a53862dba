"""What a crash leaves behind: a traceback in a file, so that the terminal shows one line, and no image of the memory."""

from __future__ import annotations

import contextlib
import os
import resource
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

from .errors import AnthillError

LOG_NAME = "anthill.log"

_QUOTING = (AnthillError, LookupError, ValueError)


def leave_no_core() -> None:
    """The memory of this process holds the key: the system shall not write it to a file, whatever its settings are."""
    with contextlib.suppress(OSError, ValueError):  # refused by a sandbox: a crash is unlikely, and work is to be done
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def record_bug(error: BaseException, log_file: Path | None, home: Callable[[], Path]) -> Path:
    """Append the traceback to ``log_file``, else to ``anthill.log`` in the home, else to a new temporary
    file; returns the path. Only its owner may read a file made here."""
    text = "".join([f"{datetime.now(timezone.utc).isoformat()}\n", *_trace(error)])
    try:
        path = log_file or home() / LOG_NAME
        _append(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), text)
        return path
    except Exception:  # noqa: BLE001  (whatever is broken, the traceback must not be lost)
        import tempfile  # here: loading it takes 2 ms

        descriptor, name = tempfile.mkstemp(prefix="anthill-", suffix=".log")
        _append(descriptor, text)
        return Path(name)


def _trace(error: BaseException) -> Iterator[str]:
    """The error and what led to it, first things first; without words that quote names or values, because this file is
    made to be sent to somebody."""
    chain: list[BaseException] = []
    earlier: BaseException | None = error
    while earlier is not None and earlier not in chain:
        chain.append(earlier)
        earlier = earlier.__cause__ or (None if earlier.__suppress_context__ else earlier.__context__)
    for each in reversed(chain):
        words = "(its words are left out: they may quote names or values)" if isinstance(each, _QUOTING) else str(each)
        yield "Traceback (most recent call last):\n"
        yield from traceback.format_tb(each.__traceback__)
        yield f"{type(each).__name__}: {words}\n"


def _append(descriptor: int, text: str) -> None:
    with open(descriptor, "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
