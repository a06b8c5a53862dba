"""The commands ``init`` and ``config``."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cli_commands import App, command
from .console import Console
from .errors import ConfigurationError, InvalidArgument
from .settings import SETTING_FIELDS, environment_name, parse_setting, parse_size, resolve

if TYPE_CHECKING:
    from .config import Config
    from .store import Store

_SECRET = re.compile(r"secret|token|password|passphrase$|(^|_)key($|_)|credential", re.IGNORECASE)
_NO_SECRET = re.compile(r"_(id|file|path|endpoint|type|uri)$", re.IGNORECASE)  # names and places of secrets
_STDIN = "-"
_MOST_TYPED = 64 * 1024  # characters of a value; keys of service accounts have 2,400


def register(app: App) -> None:
    """Add the commands to ``app``."""
    command(app)(init)
    command(app)(config)


def init(
    console: Console,
    network: Annotated[str | None, typer.Option("--network", metavar="URL", help="Default: a directory in the home.")] = None,
    pad_size: Annotated[str | None, typer.Option("--pad-size", metavar="SIZE", help="Default 4MiB.")] = None,
    key_file: Annotated[Path | None, typer.Option("--key-file", metavar="FILE", help="Used if there, else made.")] = None,
    slot: Annotated[int, typer.Option("--slot", metavar="N", min=0, help="One for each store of a key on a network.")] = 0,
    assignments: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting to keep.")] = None,
) -> None:
    """Make a store."""
    if network is not None and network.lower().startswith("memory:"):
        raise ConfigurationError("a memory: network ends with this command; it is for Python programs only")
    chosen = dict(assignment(text) for text in assignments or [])
    size = None if pad_size is None else parse_size(pad_size)
    from .config import KEY_NAME
    from .store import Store

    passphrase = console.passphrase(resolve(chosen), key_file or console.home_path() / KEY_NAME)

    with Store.create(
        console.home_path(),
        network=network,
        key_file=key_file,
        slot=slot,
        pad_size=size,
        passphrase=passphrase,
        settings=chosen,
    ) as store:
        console.out(_welcome(store))


def assignment(text: str) -> tuple[str, Any]:
    """A NAME=VALUE of ``--set``, with its type."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidArgument(f"not NAME=VALUE: {text!r}")
    if _is_secret(name):
        raise ConfigurationError(
            f"--set {name}: a secret on the command line is shown to everybody on this machine; leave it in the environment or a "
            f"profile, or keep it after init: anthill config {name} - <FILE"
        )
    return name, value if name.startswith("objects.") else parse_setting(name, value, "--set")


def _is_secret(name: str) -> bool:
    """Whether the value of a setting for the object store library may be a secret."""
    return name not in SETTING_FIELDS and _SECRET.search(name) is not None and not _NO_SECRET.search(name)


def _welcome(store: Store) -> str:
    home = shlex.quote(str(Path(store.home).absolute()))
    return (
        f"store: {store.home}\n"
        f"network: {store.network_url}\n"
        f"key: {store.key_path}\n"
        "Keep a copy of the key file elsewhere: whoever loses it loses everything, nobody can open the data without it.\n"
        f"in cron: anthill --home {home} put KEY FILE\n"
    )


def config(
    console: Console,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None,
    value: Annotated[str | None, typer.Argument(metavar="[VALUE]")] = None,
) -> None:
    """Show all settings with where they come from, show one, or change one; VALUE - is read from standard input."""
    from .config import change_setting

    home, kept = console.home_path(), console.config()
    if name is not None and value is not None:
        change_setting(home, name, _typed(name, value))
        return
    if name is None:
        console.out("".join(f"{label} = {text}  ({origin})\n" for label, text, origin in _rows(kept, home)))
    else:
        console.out(_one(kept, home, name) + "\n")


def _typed(name: str, value: str) -> str:
    """The value as given, or what standard input holds; a secret in no other way."""
    if value == _STDIN:
        text = sys.stdin.read(_MOST_TYPED).rstrip("\r\n") if sys.stdin is not None else ""
        if not text:
            raise InvalidArgument(f"standard input holds no value for {name}")
        return text
    if _is_secret(name):
        raise ConfigurationError(
            f"{name}: a secret on the command line is shown to everybody on this machine; write it to standard input: "
            f"anthill config {name} - <FILE"
        )
    return value


def _rows(kept: Config, home: Path) -> Iterator[tuple[str, str, str]]:
    """Name, value and origin of everything in force."""
    for name in ("network", "pad_size", "chunk_size", "slot"):
        yield name, _shown(name, getattr(kept, name)), "fixed by init"
    yield "key_file", str(kept.key_path(home)), "fixed by init"
    settings = resolve(kept.settings)
    for name in SETTING_FIELDS:
        yield name, _shown(name, getattr(settings, name)), _origin(name, kept.settings)
    for name, value in settings.objects.items():
        yield f"objects.{name}", _shown(name, value), "config.json"


def _origin(name: str, kept: Mapping[str, Any]) -> str:
    if environment_name(name) in os.environ:
        return environment_name(name)
    return "config.json" if name in kept else "default"


def _one(kept: Config, home: Path, name: str) -> str:
    for label, text, _ in _rows(kept, home):
        if label == name:
            return text
    if name.startswith("objects."):
        return ""
    known = ", ".join(sorted(SETTING_FIELDS))
    raise ConfigurationError(f"unknown setting {name!r}; known: {known}, objects.*")


def _shown(name: str, value: Any) -> str:
    """The value as it is typed; what may be a secret is only said to be set."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if _is_secret(name):
        return "(set, not shown)"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"(?<=//)[^/@\s]+@", "...@", text)  # a proxy's user and password
