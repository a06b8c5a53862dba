"""``config.json``: what a store is and where; and where the default home is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import durable
from .errors import ConfigurationError, IndexDamaged, LocalIOError, NoRoom, NoStore, PermissionRefused, UnknownFormat
from .settings import parse_setting

FORMAT = 1
CONFIG_NAME = "config.json"
KEY_NAME = "key"
KEY_CREDENTIAL = "anthill-key"
PASSPHRASE_CREDENTIAL = "anthill-passphrase"
EMBEDDED_NETWORK = "dir:pads"  # inside the home, and relative to it, so that the home can be moved


@dataclass(frozen=True)
class Config:
    """The fields of ``config.json``. Sizes in bytes; ``key_file`` None: ``key`` in the home."""

    network: str
    pad_size: int
    chunk_size: int
    slot: int
    facts: Mapping[str, Any]
    key_file: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def key_path(self, home: Path) -> Path:
        """Where the key file is: the store's own, or when there is none what the service manager hands out."""
        own = home / KEY_NAME if self.key_file is None else Path(self.key_file)
        handed_out = None if os.path.lexists(own) else credential(KEY_CREDENTIAL)
        return own if handed_out is None else handed_out


def credential(name: str) -> Path | None:
    """The file of this name that the service manager hands out to this service (``$CREDENTIALS_DIRECTORY``)."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder, name) if folder else None
    return path if path is not None and path.exists() else None


def default_home(environ: Mapping[str, str] | None = None) -> tuple[Path, str]:
    """The home when none is named, and why that one."""
    environ = os.environ if environ is None else environ
    if environ.get("ANTHILL_HOME"):
        return Path(environ["ANTHILL_HOME"]).absolute(), "$ANTHILL_HOME says so"
    from platformdirs import user_data_path

    return user_data_path("anthill"), "it is the default; --home or $ANTHILL_HOME names another"


def default_server_folder() -> Path:
    """Where a pad server keeps its pads when nothing names another place."""
    from platformdirs import user_data_path

    return user_data_path("anthill-server")


def read_config(home: Path, why: str = "it was named") -> Config:
    """The configuration of the store in ``home``. ``NoStore`` names the path, why that path, and how to make one."""
    path = home / CONFIG_NAME
    try:
        check_home(home)
        fields = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NoStore(f"no store in {home} ({why}); make one with: anthill --home {home} init") from None
    except PermissionError as error:
        raise PermissionRefused(f"{path}: {error.strerror}; make it readable: chmod u+rwX {home}") from error
    except OSError as error:
        raise LocalIOError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise IndexDamaged(f"{path}: damaged ({error})") from error
    return _parse(fields, path)


def _parse(fields: Any, path: Path) -> Config:
    if isinstance(fields, dict) and fields.get("format") != FORMAT:
        raise UnknownFormat(f"{path}: format {fields.get('format')!r}; this version reads {FORMAT}")
    try:
        fields.pop("format")
        config = Config(**fields)
        sane = isinstance(config.network, str) and 0 < config.chunk_size < config.pad_size and config.slot >= 0
        if not sane or not isinstance(config.settings, dict):
            raise ValueError("a field has an impossible value")
    except (AttributeError, TypeError, ValueError) as error:
        raise IndexDamaged(f"{path}: damaged ({error})") from error
    return config


def write_config(home: Path, config: Config) -> None:
    """Replace ``config.json``, durably."""
    fields = {"format": FORMAT, **{name: getattr(config, name) for name in Config.__dataclass_fields__}}
    data = json.dumps(fields, indent=2, ensure_ascii=False) + "\n"
    try:
        durable.replace_file(home / CONFIG_NAME, data.encode("utf-8"))
    except OSError as error:
        raise NoRoom(f"{home / CONFIG_NAME}: {error.strerror}") from error


def change_setting(home: Path, name: str, value: str) -> None:
    """Set one setting in ``config.json``; ``ConfigurationError`` names what it takes."""
    config = read_config(home)
    checked = value if name.startswith("objects.") else parse_setting(name, value, "the command")
    write_config(home, Config(**{**vars(config), "settings": {**config.settings, name: checked}}))


def check_home(home: Path) -> None:
    """Refuse a home that others can write: they could replace the index, or what is in it."""
    mode = os.stat(home).st_mode
    if mode & 0o022:
        raise PermissionRefused(f"{home}: others can write it; make it private: chmod go-w {home}")


def prepare_home(home: Path) -> None:
    """Create the home (0700) for a new store; one that holds a store already is refused."""
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        durable.make_folder(home)
        check_home(home)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigurationError(f"{home}: is not a directory") from error
    except PermissionError as error:
        raise PermissionRefused(f"{home}: {error.strerror}") from error
    except OSError as error:
        raise NoRoom(f"{home}: {error.strerror}") from error
    if (home / CONFIG_NAME).exists():
        raise NoRoom(f"{home} holds a store already; choose another --home")
