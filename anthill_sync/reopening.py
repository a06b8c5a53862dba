"""How a store was opened, so that a pickle of it can be opened in another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import creating
from .config import read_config
from .errors import InvalidArgument
from .keys import read_key_file
from .session import Session
from .settings import resolve

_MAY_HOLD_SECRETS = ("objects.", "proxy")  # settings whose names begin so: credentials, a URL with a password


@dataclass(frozen=True)
class Opening:
    """Everything ``Store.open`` was told but the passphrase, which is nowhere kept."""

    home: Path
    why: str = "it was named"  # that home
    lock_wait: float = 0.0  # seconds
    read_only: bool = False
    settings: Mapping[str, Any] | None = None

    def open(self, passphrase: str | None = None) -> Session:
        """Open the store."""
        config = read_config(self.home, self.why)
        resolved = resolve(config.settings, self.settings)
        key = read_key_file(config.key_path(self.home), passphrase)
        network = creating.connect(self.home, config, resolved)
        return Session(self.home, config, key, resolved, network, lock_wait=self.lock_wait, read_only=self.read_only)

    def for_another_process(self) -> Opening:
        """The same without settings that may hold a secret: there they come from ``config.json`` or the environment."""
        settings = self.settings or {}
        return replace(self, settings={name: settings[name] for name in settings if not name.startswith(_MAY_HOLD_SECRETS)})


def check_can_move(session: Session) -> None:
    """``InvalidArgument`` for a store that is in this process only."""
    if session.network.properties.scheme == "memory":
        raise InvalidArgument("the pads of a memory:// store are in this process only: it cannot be pickled")
