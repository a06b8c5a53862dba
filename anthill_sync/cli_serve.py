"""The command ``serve``."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_commands import App, command
from .cli_logging import words_handler
from .console import Console
from .errors import ConfigurationError, InvalidArgument
from .settings import parse_size

if TYPE_CHECKING:
    from .server import PadServer

_LISTEN = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+)):([0-9]{1,5})")


def register(app: App) -> None:
    """Add the command to ``app``."""
    command(app)(serve)


def serve(
    console: Console,
    listen: Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="Port 0: any free one.")] = "127.0.0.1:8620",
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Default: in the user's data directory.")] = None,
    quota: Annotated[str | None, typer.Option("--quota", metavar="SIZE", help="Bytes all pads may take.")] = None,
    max_connections: Annotated[int, typer.Option("--max-connections", metavar="N", min=1, help="Open at once.")] = 100,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", metavar="FILE", help="PEM, with its chain.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="PEM.")] = None,
) -> None:
    """Keep pads for stores on other machines, until a signal ends it; with -v, log every request."""
    if (tls_cert is None) != (tls_key is None):
        raise InvalidArgument("--tls-cert and --tls-key belong together")
    limit = None if quota is None else parse_size(quota)
    with (
        _warnings(console),
        _server(data, _address(listen), limit, max_connections, tls_cert, tls_key) as server,
        contextlib.suppress(KeyboardInterrupt),  # the signal's own end comes when everything is over
    ):
        console.out(f"{server.url}\n")
        server.wait()


def _server(
    data: Path | None, listen: tuple[str, int], quota: int | None, connections: int, cert: Path | None, key: Path | None
) -> PadServer:
    try:
        from .server import TLS, PadServer
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("anthill_sync"):
            raise
        raise ConfigurationError("the server needs one more package: pip install 'anthill_sync[server]'") from error
    tls = None if cert is None or key is None else TLS(cert, key)
    return PadServer(_folder(data), listen=listen, quota=quota, connections=connections, tls=tls)


def _folder(data: Path | None) -> Path:
    if data is not None:
        return data.absolute()
    from .config import default_server_folder

    return default_server_folder()


def _address(text: str) -> tuple[str, int]:
    match = _LISTEN.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        raise InvalidArgument(f"not HOST:PORT: {text!r}; write 127.0.0.1:8620 or [::1]:8620")
    return match[1] or match[2], int(match[3])


@contextlib.contextmanager
def _warnings(console: Console) -> Iterator[None]:
    """What fails is said also without ``-v``: nobody else would hear of it."""
    logger = logging.getLogger("anthill_sync")
    handler = words_handler(console.say, logging.WARNING)
    if not console.verbose:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
