"""``anthill`` on a directory network that a test can hold, fail, or make look expensive, through the environment.

GATE: a folder. ``held``, with the process id, is made there when a write waits for ``open`` to appear; the first GATE_FREE writes
pass. FAIL: writes fail for good after GATE_FREE. PAID: the network says that reservations cost. BUG: ``usage`` has one.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from anthill_sync.cli import main
from anthill_sync.errors import NetworkNotFound, TransientNetworkError
from anthill_sync.networks.base import Image, Pad, current_call
from anthill_sync.networks.directory import DirectoryNetwork

_COUNT = itertools.count(1)
_write = DirectoryNetwork.write


def held_write(self: DirectoryNetwork, pad: Pad, image: Image) -> None:
    """The real write, once the test allows it."""
    if next(_COUNT) > int(os.environ.get("GATE_FREE", "0")):
        if "FAIL" in os.environ:
            raise NetworkNotFound("the network is not there")
        if "GATE" in os.environ:
            wait_for(Path(os.environ["GATE"]))
    _write(self, pad, image)


def wait_for(gate: Path) -> None:
    """Like a slow network: it listens to the stop event of whoever waits."""
    (gate / f"held-{threading.get_ident()}").write_text(str(os.getpid()))
    (gate / f"held-{threading.get_ident()}").replace(gate / "held")
    call = current_call()
    while not (gate / "open").exists():
        if call is None:
            time.sleep(0.01)
        elif call.stop.wait(0.01):
            raise TransientNetworkError("stopped")


def buggy(*arguments: Any) -> None:
    """What should never happen."""
    raise ZeroDivisionError("a bug")


DirectoryNetwork.write = held_write  # type: ignore[method-assign]
if "PAID" in os.environ:
    _properties = DirectoryNetwork.properties.fget  # type: ignore[attr-defined]
    DirectoryNetwork.properties = property(  # type: ignore[method-assign, assignment]
        lambda self: dataclasses.replace(_properties(self), reservation_is_paid=True)
    )
if "BUG" in os.environ:
    from anthill_sync.store import Store

    Store.usage = buggy  # type: ignore[method-assign, assignment]

sys.exit(main())
