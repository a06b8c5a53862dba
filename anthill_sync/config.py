"""``config.json``: what a store is and where; and where the default home is."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import durable
from .errors import ConfigurationError, IndexDamaged, LocalIOError, NoRoom, NoStore, PermissionRefused, UnknownFormat
from .settings import CHUNK_MARGIN, check_pad_size, parse_setting

if TYPE_CHECKING:
    from .keys import MasterKey

FORMAT = 1
CONFIG_NAME = "config.json"
KEY_NAME = "key"
KEY_CREDENTIAL = "anthill-key"
PASSPHRASE_CREDENTIAL = "anthill-passphrase"
MEND = "'anthill recover --network URL --key-file FILE' makes it anew"
EMBEDDED_NETWORK = "dir:pads"  # inside the home, and relative to it, so that the home can be moved


@dataclass(frozen=True)
class Config:
    """The fields of ``config.json``. Sizes in bytes; ``key_file`` None: ``key`` in the home. ``store``: the id that
    key and slot give, in hexadecimal; None: not known."""

    network: str
    pad_size: int
    chunk_size: int
    slot: int
    facts: Mapping[str, Any]
    key_file: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    store: str | None = None

    def key_path(self, home: Path) -> Path:
        """Where the key file is: the store's own, or when there is none what the service manager hands out."""
        own = home / KEY_NAME if self.key_file is None else Path(self.key_file)
        handed_out = None if os.path.lexists(own) else credential(KEY_CREDENTIAL)
        return own if handed_out is None else handed_out

    def check_key(self, key: MasterKey, home: Path) -> None:
        """Refuse the key of another store: it would find none of the pads, and put new ones where nobody looks later."""
        if self.store not in (None, key.store_id(self.slot).hex()):
            raise ConfigurationError(f"{self.key_path(home)}: the key of another store; bring back the one {home} was made with")


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
    return _user_folder("anthill", "--home or $ANTHILL_HOME"), "it is the default; --home or $ANTHILL_HOME names another"


def default_server_folder() -> Path:
    """Where a pad server keeps its pads when nothing names another place."""
    return _user_folder("anthill-server", "--data")


def _user_folder(name: str, otherwise: str) -> Path:
    from platformdirs import user_data_path

    try:
        return user_data_path(name)
    except RuntimeError as error:  # a container's user that is in no list, for one
        raise ConfigurationError(
            f"this user has no home directory and $HOME is not set; name a directory with {otherwise}"
        ) from error


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
    except (ValueError, RecursionError) as error:
        raise IndexDamaged(f"{path}: damaged ({error}); {MEND}") from error
    return _parse(fields, path)


def _parse(fields: Any, path: Path) -> Config:
    if isinstance(fields, dict) and isinstance(fields.get("format"), int) and fields["format"] != FORMAT:
        raise UnknownFormat(f"{path}: format {fields['format']!r}; this version reads {FORMAT}")
    try:
        _check_sum(fields)
        fields.pop("format")
        config = Config(**fields)
        _check_fields(config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise IndexDamaged(f"{path}: damaged ({error}); {MEND}") from error
    return config


def _check_sum(fields: dict[str, Any]) -> None:
    """A changed bit may name another network, slot or size, and all would seem to be well until something is written.
    Who changes the file by hand takes the sum out."""
    named = fields.pop("sum", None)
    if named is not None and named != _sum(fields):
        raise ValueError("its sum does not fit; whoever changed it on purpose takes the member 'sum' out")


def _sum(fields: Mapping[str, Any]) -> str:
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def _check_fields(config: Config) -> None:
    whole = all(type(number) is int for number in (config.pad_size, config.chunk_size, config.slot)) and config.slot >= 0
    mappings = isinstance(config.settings, dict) and isinstance(config.facts, dict)
    names = isinstance(config.network, str) and all(
        isinstance(name, (str, type(None))) for name in (config.key_file, config.store)
    )
    if not (whole and mappings and names) or config.chunk_size != check_pad_size(config.pad_size) - CHUNK_MARGIN:
        raise ValueError("a field has an impossible value")


def write_config(home: Path, config: Config) -> None:
    """Replace ``config.json``, durably."""
    fields = {"format": FORMAT, **{name: getattr(config, name) for name in Config.__dataclass_fields__}}
    data = json.dumps({**fields, "sum": _sum(fields)}, indent=2, ensure_ascii=False) + "\n"
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
    make_home(home)
    if (home / CONFIG_NAME).exists():
        raise NoRoom(f"{home} holds a store already; choose another --home")


def make_home(home: Path) -> None:
    """Create the home (0700), or find it private."""
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
