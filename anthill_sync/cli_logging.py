"""Where the package's log goes while a command runs."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path

from .render import printable

RUN_ID = os.urandom(4).hex()  # of this process: it tells apart the lines of commands that write to one file
RUN_LOGGER = "anthill_sync.run"  # begin and end of commands; for the file, a person at a terminal knows them


class _Words(logging.Handler):
    """Log records as words on stderr, between the bars."""

    def __init__(self, say: Callable[[str], None], level: int) -> None:
        super().__init__(level)
        self.addFilter(lambda record: record.name != RUN_LOGGER)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(self.format(record))


class _OneLine(logging.Formatter):
    """A record is one line: time with its zone, run, process, thread, level, place, message; a traceback is folded in."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(run)s %(process)d %(threadName)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802  (logging's name)
        return datetime.fromtimestamp(min(record.created, 253402214400.0)).astimezone().isoformat(timespec="milliseconds")

    def format(self, record: logging.LogRecord) -> str:
        record.run = RUN_ID
        return printable(super().format(record))


def words_handler(say: Callable[[str], None], level: int) -> logging.Handler:
    """Records from ``level`` on go to ``say``."""
    return _Words(say, level)


@contextlib.contextmanager
def logging_to(say: Callable[[str], None], level: int | None, log_file: Path | None) -> Iterator[None]:
    """Records from ``level`` on (None: none) to ``say``; to ``log_file`` everything, with times, appended."""
    logger = logging.getLogger("anthill_sync")
    handlers = list(_handlers(say, level, log_file))
    before = logger.level
    for handler in handlers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(before)
        for handler in handlers:
            logger.removeHandler(handler)
            with contextlib.suppress(OSError):  # what could not be written was said already
                handler.close()


def _handlers(say: Callable[[str], None], level: int | None, log_file: Path | None) -> Iterator[logging.Handler]:
    if level is not None:
        yield _Words(say, level)
    if log_file is not None:
        yield _file_handler(say, log_file)


def _file_handler(say: Callable[[str], None], path: Path) -> logging.Handler:
    """Appends to ``path``, and opens it again when it was moved away: rotation needs no signal. What cannot be written
    is said once; the command goes on."""
    from logging.handlers import WatchedFileHandler

    class LogFile(WatchedFileHandler):
        failed = False

        def _open(self) -> TextIOWrapper:
            return open(self.baseFilename, "a", encoding="utf-8", errors="backslashreplace", opener=_private)

        def emit(self, record: logging.LogRecord) -> None:
            try:
                super().emit(record)
            except OSError:  # opening it again
                self.handleError(record)

        def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
            if not self.failed:
                self.failed = True
                say(f"warning: the log file {path} cannot be written any more")

    handler = LogFile(path)
    handler.setFormatter(_OneLine())
    return handler


def _private(path: str, flags: int) -> int:
    """A log names what is stored by pad and place: a new one is for its owner only."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
