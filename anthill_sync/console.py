"""One command's surroundings: common options, words, questions, and errors turned into exit codes."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import time
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import cli_limits
from .cli_output import Output, is_terminal
from .cli_questions import answer_reservation
from .cli_signals import Signals
from .errors import InvalidArgument, KeyNotFound
from .progress import Silent, reporter
from .render import FORMAT, json_line, printable
from .settings import Settings, resolve

if TYPE_CHECKING:
    from .cli_runs import Run
    from .config import Config
    from .events import Confirm, Event
    from .store import Store


class Report:
    """A reporter whose drawings are never cut in two by a signal; the console remembers how many bytes it reported."""

    def __init__(self, reporter: Silent, console: Console) -> None:
        self._reporter, self._console = reporter, console

    def __call__(self, event: Event) -> None:
        from .events import StoreComplete, UploadProgress

        if isinstance(event, StoreComplete) and not self._reporter.each_value:
            return
        if isinstance(event, UploadProgress):
            self._console.bytes_done = event.bytes_written
        with self._console.signals.deferred():
            self._reporter(event)

    def transferred(self, done: int, total: int) -> None:
        self._console.bytes_done = done
        with self._console.signals.deferred():
            self._reporter.transferred(done, total)


@dataclass(eq=False, repr=False)  # both take a millisecond to make
class Console:
    """What one command was asked for besides its own arguments, and its way to speak."""

    signals: Signals = field(default_factory=Signals)
    home: Path | None = None
    quiet: bool = False
    verbose: int = 0
    log_file: Path | None = None
    passphrase_file: Path | None = None
    passphrase_command: str | None = None
    lock_wait: float | None = None
    as_json: bool = False
    progress: str = "auto"
    yes: bool = False
    max_pads: int | None = None
    metrics_file: Path | None = None
    ping: str | None = None
    limit_upload: str | None = None
    limit_download: str | None = None
    threads: int | None = None
    max_duration: str | None = None
    began: float = field(default_factory=time.monotonic)
    stdin_is_data: bool = False  # so nobody can answer there
    bytes_done: int = 0  # plaintext bytes of values so far
    run: Run | None = None  # of a command whose end is told to others
    stdout: Output = field(default_factory=Output)
    _reporter: Silent = field(default_factory=lambda: Silent(_stderr()))

    # -- words

    @property
    def json_errors(self) -> bool:
        """Stderr holds JSON lines only."""
        return self.as_json or self.progress == "json"

    def out(self, text: str) -> None:
        """Data, to stdout."""
        if text:
            self.stdout.write(text.encode("utf-8", "surrogateescape"))

    def answer(self, fields: Mapping[str, Any]) -> None:
        """The one JSON object of a command, to stdout."""
        self.out(json_line({"format": FORMAT, **fields}))

    def say(self, text: str) -> None:
        """Words on stderr, whoever reads them."""
        self._reporter.write(json_line({"note": text})[:-1] if self.json_errors else printable(text))

    def note(self, text: str) -> None:
        """Words of a success: for a person at a terminal, or on demand, never for cron."""
        if not self.quiet and not self.json_errors and (self.verbose or is_terminal(sys.stderr)):
            self.say(text)

    @property
    def words_level(self) -> int | None:
        """From which level on records of the log are said: warnings to a person, more with ``-v``, nothing to cron."""
        if self.verbose:
            return logging.INFO if self.verbose == 1 else logging.DEBUG
        return logging.WARNING if not (self.quiet or self.json_errors) and is_terminal(sys.stderr) else None

    def warn(self, text: str) -> None:
        """What went wrong beside a command, which is not to fail for it."""
        if not self.quiet:
            self.say(f"warning: {text}")

    def end(self, code: int, error: str | None = None) -> None:
        """Tell those who were not there; only the first end counts."""
        run, self.run = self.run, None
        if run is not None:
            run.end(code, error)

    def fail(self, message: str, code: int, context: Mapping[str, Any] | None = None) -> int:
        """The error as the last line on stderr; returns ``code``."""
        self.end(code, message)
        context = context or {}
        if self.json_errors:
            named = {"key": context.get("key"), "pad": context.get("pad"), "resume": bool(context.get("resume"))}
            self._reporter.write(json_line({"error": message, "code": code, **named})[:-1])
        else:
            self._reporter.write(f"anthill: {printable(message)}")
        return code

    @contextlib.contextmanager
    def reporting(self) -> Iterator[Report]:
        """Progress for the time of a ``with``; words printed meanwhile do not tear bars."""
        self._reporter = reporter(self._progress_mode(), _stderr())
        try:
            yield Report(self._reporter, self)
        finally:
            with self.signals.deferred():
                self._reporter.close()

    def _progress_mode(self) -> str:
        if self.progress == "auto" and (self.quiet or self.as_json):
            return "none"
        if self.as_json and self.progress in ("bars", "plain"):
            raise InvalidArgument(f"--json keeps stderr to JSON lines: not with --progress {self.progress}")
        return self.progress

    # -- the store

    def home_path(self) -> Path:
        """The store's directory: option, environment, default."""
        return self._place()[0]

    def config(self) -> Config:
        """``config.json``; ``NoStore`` names the path and why that path."""
        from .config import read_config

        return read_config(*self._place())

    def _place(self) -> tuple[Path, str]:
        from .config import default_home

        return default_home() if self.home is None else (self.home, "--home says so")

    @contextlib.contextmanager
    def store(self, *, read_only: bool = False) -> Iterator[Store]:
        """The store, open for the time of a ``with``. A key that is not there is told with those that are alike."""
        self.check_progress()
        home, config = self.home_path(), self.config()
        options = cli_limits.settings_of(self)
        settings = resolve(config.settings, options)
        cli_limits.seconds_left(self)  # a wrong one is said before anything is done
        from .store import Store

        passphrase, wait = self.passphrase(settings, config.key_path(home)), self.wait_for_lock(settings)
        with Store.open(home, passphrase=passphrase, lock_wait=wait, read_only=read_only, settings=options) as store:
            try:
                yield store
            except KeyNotFound as error:
                from .cli_alike import say_alike

                say_alike(error, store)
                raise

    def check_progress(self) -> None:
        """``InvalidArgument`` for a ``--progress`` that cannot be, before anything is done."""
        reporter(self._progress_mode(), _stderr())

    def passphrase(self, settings: Settings, key_file: Path | None = None) -> str | None:
        """The passphrase from where the options, the settings or the service manager say, or from the person at the
        terminal when ``key_file`` needs one; None where there is none."""
        from .cli_passphrase import find_passphrase

        return find_passphrase(self, settings, key_file)

    @property
    def can_ask(self) -> bool:
        """A person is there to ask: at the terminal, with words allowed and stdin free for the answer."""
        return not (self.json_errors or self.stdin_is_data) and is_terminal(sys.stdin) and is_terminal(sys.stderr)

    def wait_for_lock(self, settings: Settings) -> float:
        """Seconds."""
        wait = settings.lock_wait if self.lock_wait is None else self.lock_wait
        if wait is None:
            return 0.0 if is_terminal(sys.stderr) else 60.0
        return wait

    def confirm(self, store: Store) -> Confirm:
        """What answers ``ConfirmReservation`` for this command."""

        return lambda question: answer_reservation(question, store, self)

    def clear_screen(self) -> None:
        """Take bars away; the next event draws them again."""
        with self.signals.deferred():
            self._reporter.pause()


def _stderr() -> typing.TextIO:
    return sys.stderr if sys.stderr is not None else io.StringIO()


def merged(root: Console, given: dict[str, Any]) -> Console:
    """Options given after the command win over those before it; ``-v`` adds up."""
    values = {f.name: getattr(root, f.name) for f in fields(Console)}
    values.update({name: value for name, value in given.items() if value not in (None, False, 0)})
    values["verbose"] = root.verbose + given["verbose"]
    for name in ("lock_wait", "max_pads"):
        values[name] = given.get(name)
    return Console(**values)
