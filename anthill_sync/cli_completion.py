"""The command ``completion``."""

from __future__ import annotations

from typing import Annotated

import typer

from .cli_commands import App, command
from .console import Console
from .errors import InvalidArgument


def register(app: App) -> None:
    """Add the command to ``app``, whose commands it completes."""

    def completion(console: Console, shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, fish or zsh.")]) -> None:
        """Print what teaches SHELL to complete commands, options and keys."""
        from .cli_tree import commands
        from .completions import SHELLS

        if shell not in SHELLS:
            raise InvalidArgument(f"no completion for {shell!r}; there is one for {', '.join(sorted(SHELLS))}")
        console.out(SHELLS[shell](commands(app)))

    command(app)(completion)
