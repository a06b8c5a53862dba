"""How functions become commands: declared when their module is imported, built when they are asked for.

Building all of them would take longer than most of them run.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from .cli_guard import guarded
from .cli_options import COMMON, EXTRA, Option
from .console import Console, merged

Command = TypeVar("Command", bound=Callable[..., int | None])
_PLAIN: Any = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}


class App(typer.Typer):
    """A program or a group of commands."""

    def __init__(self, **options: Any) -> None:
        self.declared: dict[str, Callable[..., int]] = {}
        super().__init__(cls=type("Commands", (_Commands,), {"declared": self.declared}), **_PLAIN, **options)


class _Commands(TyperGroup):
    """Typer's group, of commands that are built when they are looked up."""

    declared: dict[str, Callable[..., int]]

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Built(self.declared, self.commands)


class _Built(MutableMapping[str, Any]):
    """The commands of a group by name, declared ones first: what a group of typer has as its ``commands``."""

    def __init__(self, declared: dict[str, Callable[..., int]], others: MutableMapping[str, Any]) -> None:
        self._declared = declared
        self._built = dict(others)

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            self._built[name] = _build(name, self._declared[name])
        return self._built[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._built[name] = command

    def __delitem__(self, name: str) -> None:
        raise TypeError("commands stay")

    def __contains__(self, name: object) -> bool:
        return name in self._declared or name in self._built

    def __iter__(self) -> Iterator[str]:
        return iter([*self._declared, *(name for name in self._built if name not in self._declared)])

    def __len__(self) -> int:
        return len(self._declared.keys() | self._built.keys())


def _build(name: str, run: Callable[..., int]) -> Any:
    _declare(run, _own_parameters(vars(run)["__wrapped__"]), vars(run)["options"])
    alone = typer.Typer(**_PLAIN)
    alone.command(name)(run)
    return typer.main.get_command(alone)


def command(app: App, *extra: str) -> Callable[[Command], Command]:
    """Register a function ``(console, ...) -> exit code or None`` with the common options and the ``extra`` ones."""
    names = [*extra, "metrics", "ping"] if "run" in extra else extra
    options = [*COMMON, *(EXTRA[name] for name in names if name != "run")]

    def register(function: Command) -> Command:
        @functools.wraps(function)
        def run(ctx: typer.Context, **given: Any) -> int:
            console = merged(ctx.obj, {name: given.pop(name) for name, _, _ in options})
            name = ctx.command_path.partition(" ")[2]
            action = functools.partial(function, console, **given)
            return guarded(console, functools.partial(_told, console, name, action) if "run" in extra else action, name)

        vars(run)["options"] = options
        app.declared[function.__name__] = run
        return function

    return register


def _told(console: Console, name: str, action: Callable[[], int | None]) -> int | None:
    """Others want to hear of this command, from its begin on."""
    from .cli_runs import begin

    console.run = begin(console, name)
    return action()


def root_options(app: App, show_version: Callable[[bool], None]) -> None:
    """Accept the common options, and ``--version``, before the command."""
    version = typer.Option("--version", is_eager=True, callback=show_version, help="Show the version, and exit.")

    def run(ctx: typer.Context, **given: Any) -> None:
        del given["version"]
        ctx.obj = merged(ctx.obj, given)

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
