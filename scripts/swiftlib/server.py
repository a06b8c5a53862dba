"""One server of the cluster: ``python -m swiftlib.server KIND CONFIGURATION [OWNER]``; ends with a signal, or soon
after the process OWNER has ended.

Swift reads ``/etc/swift/swift.conf`` unless told otherwise before it is used, which only code can do.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from pathlib import Path
from time import sleep  # the real one: Swift puts another in its place


def end_with(owner: int) -> None:
    """However the owner ends: a test process that was killed leaves no cluster behind."""
    while Path(f"/proc/{owner}").exists():
        sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)


def main(kind: str, configuration: str, owner: str = "") -> None:
    if owner:
        threading.Thread(target=end_with, args=(int(owner),), daemon=True).start()
    import swift.common.utils

    swift.common.utils.SWIFT_CONF_FILE = str(Path(configuration).parent / "swift.conf")
    sys.argv = [f"swift-{kind}-server", configuration, "-v"]
    module = importlib.import_module({"object": "swift.obj.server"}.get(kind, f"swift.{kind}.server"))
    sys.exit(module.main())


main(*sys.argv[1:])
