"""How a command's run ended, for whoever was not there: ``last-run.json`` in the home, a file of metrics, a monitor.

None of it ever fails the command: what cannot be told is one warning.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import durable
from .cli_logging import RUN_ID
from .config import CONFIG_NAME
from .errors import AnthillError
from .lock import FileLock
from .render import FORMAT, timestamp
from .settings import Settings, resolve

if TYPE_CHECKING:
    from .console import Console
    from .networks.ping import Ping

LAST_RUN_NAME = "last-run.json"
_LOCK_NAME = "last-run.lock"
_LOCK_SECONDS = 1.0  # commands that end at once take turns; nobody holds it for longer than one small write
_STOPPED_SECONDS = 2.0  # for the monitor when a signal has to end us within five
_METRICS = (  # name, what it says
    ("anthill_run_start_timestamp_seconds", "When the last run of the command began, since 1970."),
    ("anthill_run_end_timestamp_seconds", "When it ended, since 1970."),
    ("anthill_run_exit_code", "Its exit code; 0 is success."),
    ("anthill_run_processed_bytes", "Plaintext bytes it stored, read or proved."),
    ("anthill_run_last_success_timestamp_seconds", "When the command last ended with 0, since 1970."),
)


@dataclass
class Run:
    """One command from its begin to its end."""

    console: Console
    command: str
    recorded: bool
    ping: Ping | None = None
    began: float = field(default_factory=time.time)  # seconds since 1970

    def end(self, code: int, error: str | None) -> None:
        """Tell everyone who was named how it ended."""
        ended, succeeded = time.time(), None
        if self.recorded:
            with self._warning("last-run.json was not written"):
                succeeded = self._record(ended, code, error)
        if self.console.metrics_file is not None:
            with self._warning("the file of metrics was not written"):
                self._write_metrics(self.console.metrics_file, ended, code, succeeded)
        if self.ping is not None:
            self._end_ping(self.ping, code)

    def _end_ping(self, ping: Ping, code: int) -> None:
        stopped = self.console.signals.received is not None
        failure = ping.end(code, _STOPPED_SECONDS) if stopped else ping.end(code)
        if failure is not None:
            self.console.warn(f"the monitor was not told: {failure}")

    @contextlib.contextmanager
    def _warning(self, what: str) -> Iterator[None]:
        try:
            yield
        except AnthillError as error:
            self.console.warn(f"{what}: {error}")
        except OSError as error:
            self.console.warn(f"{what}: {error.strerror or error}")

    # -- last-run.json

    def _record(self, ended: float, code: int, error: str | None) -> float | None:
        """Replace ``last-run.json``; returns when the command last succeeded, in seconds since 1970."""
        home = self.console.home_path()
        if not (home / CONFIG_NAME).exists() or not os.access(home, os.W_OK):
            log.info("%s is not there or read-only: %s is not written", home, LAST_RUN_NAME)
            return ended if code == 0 else None
        lock = FileLock(home / _LOCK_NAME)
        lock.acquire(_LOCK_SECONDS)
        try:
            successes = _successes(home)
            if code == 0:
                successes[self.command] = _iso(ended)
            fields = self._fields(ended, code, error, successes)
            durable.replace_file(home / LAST_RUN_NAME, (json.dumps(fields, indent=2) + "\n").encode("ascii"))
        finally:
            lock.release()
        return _seconds(successes.get(self.command))

    def _fields(self, ended: float, code: int, error: str | None, successes: dict[str, str]) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "run": RUN_ID,
            "command": self.command,
            "start": _iso(self.began),
            "end": _iso(ended),
            "exit_code": code,
            "error": error,
            "bytes": self.console.bytes_done,
            "last_success": successes,
        }

    # -- metrics

    def _write_metrics(self, path: Path, ended: float, code: int, succeeded: float | None) -> None:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(path.stat().st_mode):
                raise OSError(f"{path} is not a file")
        text = self.metrics(ended, code, succeeded)
        durable.replace_file(path, text.encode("utf-8", "replace"), 0o644, suffix=f".{os.getpid()}.new")

    def metrics(self, ended: float, code: int, succeeded: float | None) -> str:
        """The run in the text format of Prometheus; ``succeeded`` None: not known, and left away."""
        labels = f'{{command="{_escaped(self.command)}",home="{_escaped(str(self.console.home_path()))}"}}'
        values = (self.began, ended, code, self.console.bytes_done, succeeded)
        return "".join(
            f"# HELP {name} {words}\n# TYPE {name} gauge\n{name}{labels} {value!r}\n"
            for (name, words), value in zip(_METRICS, values, strict=True)
            if value is not None
        )


log = logging.getLogger(__name__)


def begin(console: Console, command: str) -> Run:
    """The run of a command that begins now. A get is recorded only when it is to be told elsewhere too: reading takes no
    lock and writes nothing."""
    recorded = command != "get" or console.metrics_file is not None or console.ping is not None
    run = Run(console, command, recorded)
    if console.ping is not None:
        from .networks.ping import Ping

        run.ping = Ping(console.ping, _settings(console))
        run.ping.start()
    return run


def _settings(console: Console) -> Settings:
    """Proxy and authorities as the store has them; a store that cannot be read is no reason to tell nobody."""
    try:
        return resolve(console.config().settings)
    except (AnthillError, OSError) as error:
        log.info("the monitor is told with default settings: %s", error)
        return Settings()


def _successes(home: Path) -> dict[str, str]:
    """When each command last succeeded; nothing where the file is absent or not ours."""
    try:
        found = json.loads((home / LAST_RUN_NAME).read_bytes())["last_success"]
        return {str(command): str(when) for command, when in found.items()}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _iso(seconds: float) -> str:
    last = 253402300799.0  # the end of the calendar: a wrong clock must not fail a run that went well
    return timestamp(datetime.fromtimestamp(min(max(seconds, 0.0), last), timezone.utc))


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
