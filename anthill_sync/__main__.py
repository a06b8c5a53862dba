"""``python -m anthill_sync`` is ``anthill``."""

from __future__ import annotations

import sys
from contextlib import suppress

from . import __version__


def main() -> int:
    """The program; its exit code. The version alone is shown without the commands, which take most of the time of starting;
    where that fails they try again, and say why not."""
    if sys.argv[1:] == ["--version"] and sys.stdout is not None:
        with suppress(OSError, ValueError):
            print(f"anthill {__version__}", flush=True)
            return 0
    from .cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
