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
def logging_to(say: Callable[[str], None], verbose: int, log_file: Path | None) -> Iterator[None]:
    """``verbose`` 1: what happens, to ``say``; 2: everything; ``log_file``: everything, with times, appended."""
    logger = logging.getLogger("anthill_sync")
    handlers = list(_handlers(say, verbose, log_file))
    level = logger.level
    for handler in handlers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(level)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


def _handlers(say: Callable[[str], None], verbose: int, log_file: Path | None) -> Iterator[logging.Handler]:
    if verbose:
        yield _Words(say, logging.INFO if verbose == 1 else logging.DEBUG)
    if log_file is not None:
        log = logging.FileHandler(log_file, encoding="utf-8", errors="backslashreplace")
        log.setFormatter(logging.Formatter("%(asctime)s %(process)d %(threadName)s %(levelname)s %(name)s: %(message)s"))
        yield log
