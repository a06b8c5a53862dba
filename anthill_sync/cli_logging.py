"""Where the package's log goes while a command runs."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path


class _Words(logging.Handler):
    """Log records as words on stderr, between the bars."""

    def __init__(self, say: Callable[[str], None], level: int) -> None:
        super().__init__(level)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(self.format(record))


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
            handler.close()


def _handlers(say: Callable[[str], None], level: int | None, log_file: Path | None) -> Iterator[logging.Handler]:
    if level is not None:
        yield _Words(say, level)
    if log_file is not None:
        log = logging.FileHandler(log_file, encoding="utf-8", errors="backslashreplace")
        log.setFormatter(logging.Formatter("%(asctime)s %(process)d %(threadName)s %(levelname)s %(name)s: %(message)s"))
        yield log
