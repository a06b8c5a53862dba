"""One server of the cluster: ``python -m swiftlib.server KIND CONFIGURATION``; ends with a signal.

Swift reads ``/etc/swift/swift.conf`` unless told otherwise before it is used, which only code can do.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main(kind: str, configuration: str) -> None:
    import swift.common.utils

    swift.common.utils.SWIFT_CONF_FILE = str(Path(configuration).parent / "swift.conf")
    sys.argv = [f"swift-{kind}-server", configuration, "-v"]
    module = importlib.import_module({"object": "swift.obj.server"}.get(kind, f"swift.{kind}.server"))
    sys.exit(module.main())


main(*sys.argv[1:])
