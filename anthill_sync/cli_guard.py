"""One command from its begin to its exit code, with every error said."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from .cli_bugs import record_bug
from .cli_logging import RUN_LOGGER, logging_to
from .cli_output import OutputClosed, system_failure
from .cli_signals import name_of
from .errors import AnthillError

if TYPE_CHECKING:
    from .console import Console

CLOSED_OUTPUT = 141


def guarded(console: Console, action: Callable[[], int | None], name: str = "") -> int:
    """Run the command ``name``; its exit code, with every error said."""
    try:
        with logging_to(console.say, console.words_level, console.log_file):
            return _logged(console, action, name)
    except BaseException as error:  # noqa: BLE001  (the log file cannot be opened, or a signal came last)
        return _failure(console, error)


def _logged(console: Console, action: Callable[[], int | None], name: str) -> int:
    """The log has begin and end of a command, but no error's words: they name keys."""
    log = logging.getLogger(RUN_LOGGER)
    log.info("%s began", name)
    try:
        code, reason = action() or 0, ""
        console.end(code)
    except BaseException as error:  # noqa: BLE001  (the one place where everything becomes an exit code)
        code, reason = _failure(console, error), f" ({type(error).__name__})"
        console.end(code)  # who read our stdout went away: nothing was said
    log.log(logging.ERROR if code else logging.INFO, "%s ended with code %d%s", name, code, reason)
    return code


def _failure(console: Console, error: BaseException) -> int:
    if console.signals.received is not None:
        return console.fail(f"stopped by {name_of(console.signals.received)}", 128 + console.signals.received)
    return exit_code(console, error)


def exit_code(console: Console, error: BaseException) -> int:
    """Say what went wrong; its code in the table of exit codes."""
    if isinstance(error, OutputClosed):
        return CLOSED_OUTPUT
    if isinstance(error, KeyboardInterrupt):
        return console.fail("stopped by SIGINT", 130)
    if isinstance(error, OSError):
        error = system_failure(error)
    if isinstance(error, AnthillError):
        return console.fail(error.message, error.exit_code, error.context)
    log = record_bug(error, console.log_file, console.home_path)
    return console.fail(f"a bug in anthill: {type(error).__name__}; please report it with {log}", 70)
