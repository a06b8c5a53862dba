"""One command's surroundings: common options, words, questions, and errors turned into exit codes."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import logging
import os
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from .cli_bugs import record_bug
from .cli_logging import logging_to
from .cli_output import Output, OutputClosed, is_terminal, system_failure
from .cli_questions import answer_reservation
from .cli_signals import Signals, name_of
from .errors import AnthillError, InvalidArgument
from .events import Confirm, Event
from .progress import MODES, Silent, reporter
from .render import FORMAT, json_line, printable
from .settings import Settings, resolve

if TYPE_CHECKING:
    from .config import Config
    from .store import Store

CLOSED_OUTPUT = 141


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
}


class Report:
    """A reporter whose drawings are never cut in two by a signal."""

    def __init__(self, reporter: Silent, signals: Signals) -> None:
        self._reporter, self._signals = reporter, signals

    def __call__(self, event: Event) -> None:
        with self._signals.deferred():
            self._reporter(event)

    def transferred(self, done: int, total: int) -> None:
        with self._signals.deferred():
            self._reporter.transferred(done, total)


@dataclass
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
    stdin_is_data: bool = False  # so nobody can answer there
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

    def fail(self, message: str, code: int, context: Mapping[str, Any] | None = None) -> int:
        """The error as the last line on stderr; returns ``code``."""
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
            yield Report(self._reporter, self.signals)
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

    def store(self, *, read_only: bool = False) -> Store:
        """The store, open; close it with ``with``."""
        self.check_progress()
        home, config = self.home_path(), self.config()
        settings = resolve(config.settings)
        from .store import Store

        passphrase = self.passphrase(settings, config.key_path(home))
        return Store.open(home, passphrase=passphrase, lock_wait=self._wait_for_lock(settings), read_only=read_only)

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

    def _wait_for_lock(self, settings: Settings) -> float:
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


# -- commands

Command = TypeVar("Command", bound=Callable[..., int | None])


def command(app: typer.Typer, *extra: str) -> Callable[[Command], Command]:
    """Register a function ``(console, ...) -> exit code or None`` with the common options and the ``extra`` ones."""
    options = [*COMMON, *(EXTRA[name] for name in extra)]

    def register(function: Command) -> Command:
        @functools.wraps(function)
        def run(ctx: typer.Context, **given: Any) -> int:
            console = _console(ctx.obj, {name: given.pop(name) for name, _, _ in options})
            return guarded(console, functools.partial(function, console, **given))

        _declare(run, _own_parameters(function), options)
        app.command()(run)
        return function

    return register


def root_options(app: typer.Typer, show_version: Callable[[bool], None]) -> None:
    """Accept the common options, and ``--version``, before the command."""
    version = typer.Option("--version", is_eager=True, callback=show_version, help="Show the version, and exit.")

    def run(ctx: typer.Context, **given: Any) -> None:
        del given["version"]
        ctx.obj = _console(ctx.obj, given)

    _declare(run, [], [*COMMON, ("version", Annotated[bool, version], False)])
    app.callback()(run)


def _declare(run: Callable[..., Any], own: list[inspect.Parameter], options: Sequence[Option]) -> None:
    """Give ``run`` the parameters ``own`` and ``options``, in the form typer reads."""
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    common = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=d, annotation=a) for n, a, d in options]
    parameters = [context, *own, *common]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}


def _own_parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of a command besides its console, with their annotations resolved."""
    hints = {name: _bare(hint) for name, hint in typing.get_type_hints(function, include_extras=True).items()}
    own = list(inspect.signature(function).parameters.values())[1:]
    return [p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[p.name]) for p in own]


def _bare(hint: Any) -> Any:
    """Python 3.10 puts Optional around the annotation of a parameter whose default is None, and typer then overlooks
    the option inside."""
    inside = [each for each in typing.get_args(hint) if typing.get_origin(each) is Annotated]
    return inside[0] if typing.get_origin(hint) is typing.Union and inside else hint


def _console(root: Console, given: dict[str, Any]) -> Console:
    """Options given after the command win over those before it; ``-v`` adds up."""
    values = {f.name: getattr(root, f.name) for f in fields(Console)}
    values.update({name: value for name, value in given.items() if value not in (None, False, 0)})
    values["verbose"] = root.verbose + given["verbose"]
    for name in ("lock_wait", "max_pads"):
        values[name] = given.get(name)
    return Console(**values)


def guarded(console: Console, action: Callable[[], int | None]) -> int:
    """Run a command; its exit code, with every error said."""
    try:
        with logging_to(console.say, console.words_level, console.log_file):
            return action() or 0
    except BaseException as error:  # noqa: BLE001  (the one place where everything becomes an exit code)
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
