"""Live pad servers of this process, on free ports of the loopback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anthill_sync.server import PadServer

_ONLY: list[PadServer] = []


def serve(data: Path, **options: Any) -> PadServer:
    """A running server; ``options`` as for ``PadServer``. Stop it, or leave it to ``with``."""
    server = PadServer(data, **{"connections": 24, **options})
    vars(server)["_server"].expiration_interval = 0.01  # seconds between looks at a stop
    server.start()
    return server


def serve_only(data: Path, **options: Any) -> PadServer:
    """A running server that ends when the next one of this kind starts: for fixtures that cannot clean up."""
    stop_only()
    _ONLY.append(serve(data, **options))
    return _ONLY[0]


def stop_only() -> None:
    """End the last one of them; its threads would keep the process alive."""
    while _ONLY:
        _ONLY.pop().stop()
