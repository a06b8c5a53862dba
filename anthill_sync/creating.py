"""Making a new store: home, key, network facts, empty index; ``config.json`` last, because it says the store exists. And
opening one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import durable
from .config import EMBEDDED_NETWORK, Config, prepare_home, read_config, write_config
from .errors import ConfigurationError, LocalIOError, NoRoom, PadNotFound, PermissionRefused
from .journal import LOCK_NAME, create_files
from .keys import MasterKey, encode_key, encode_wrapped_key, read_key_file
from .lock import check_flock
from .networks import normalise_url, open_network, prepare_network
from .networks.base import Network
from .networks.limiting import limited
from .networks.retrying import open_retrying
from .session import Session
from .settings import CHUNK_MARGIN, DEFAULT_PAD_SIZE, FRESH_WINDOW, Settings, check_pad_size, resolve
from .threads import Pool  # loaded with the store: a handler of atexit comes too late for concurrent.futures


def create(
    home: Path,
    *,
    network: str | None,
    key_file: Path | None,
    slot: int,
    pad_size: int | None,
    passphrase: str | None,
    settings: Mapping[str, Any] | None,
) -> None:
    """Make a store in ``home``; an existing key file is used, never overwritten."""
    size = check_pad_size(DEFAULT_PAD_SIZE if pad_size is None else pad_size)
    resolved = resolve(settings or {})
    if network == "memory://":
        network += os.urandom(8).hex()
    url = EMBEDDED_NETWORK if network is None else normalise_url(network, Path.cwd())
    if slot < 0:
        raise ConfigurationError(f"slot {slot}: a slot is a whole number from 0")
    prepare_home(home)
    config = Config(
        url, size, size - CHUNK_MARGIN, slot, {}, None if key_file is None else str(key_file.absolute()), settings or {}
    )
    prepare_network(url, base=home)
    key, fresh = _key(config.key_path(home), passphrase)
    facts = probe(home, config, key, resolved, check_empty=not fresh)
    try:
        check_flock(home / LOCK_NAME)
        create_files(home)
    except OSError as error:
        raise NoRoom(f"{home}: {error.strerror}") from error
    write_config(home, Config(**{**vars(config), "facts": facts, "store": key.store_id(slot).hex()}))


def _key(path: Path, passphrase: str | None) -> tuple[MasterKey, bool]:
    """The key of the file, or a new one in it; and whether it is new."""
    if os.path.lexists(path):
        return read_key_file(path, passphrase), False
    key = MasterKey.generate()
    text = encode_key(key) if passphrase is None else encode_wrapped_key(key, passphrase)
    try:
        durable.replace_file(path, text.encode("ascii"))
    except PermissionError as error:
        raise PermissionRefused(f"{path}: {error.strerror}") from error
    except OSError as error:
        raise LocalIOError(f"{path}: {error.strerror}; the key could not be written") from error
    return key, True


def open_session(
    home: Path, why: str, passphrase: str | None, settings: Mapping[str, Any] | None, *, lock_wait: float, read_only: bool
) -> Session:
    """The store in ``home``, which was chosen because ``why``, open; ``settings`` override the environment and its own."""
    config = read_config(home, why)
    resolved = resolve(config.settings, settings)
    key = read_key_file(config.key_path(home), passphrase)
    config.check_key(key, home)
    network = connect(home, config, resolved)
    return Session(home, config, key, resolved, network, lock_wait=lock_wait, read_only=read_only)


def connect(home: Path, config: Config, settings: Settings) -> Network:
    """The network of a store, with retries, below the rates in ``settings``."""

    def opens() -> Network:
        return open_network(config.network, pad_size=config.pad_size, base=home, settings=settings, facts=config.facts)

    return limited(open_retrying(opens, settings), settings)


def probe(home: Path, config: Config, key: MasterKey, settings: Settings, *, check_empty: bool) -> dict[str, Any]:
    """The network's facts; ``check_empty``: refuse it when the key has pads there."""
    network = connect(home, config, settings)
    try:
        if network.properties.pad_size < config.pad_size:
            raise ConfigurationError(
                f"the network takes pads of {network.properties.pad_size} bytes; choose a smaller --pad-size"
            )
        if check_empty:
            _check_unused(network, config, key)
        return asdict(network.properties)
    finally:
        network.close()


def _check_unused(network: Network, config: Config, key: MasterKey) -> None:
    """Refuse a key that has pads on this network: one of the lowest must exist then, because no write ever starts more
    than ``FRESH_WINDOW`` above the lowest never-written pad."""

    def exists(number: int) -> bool:
        try:
            network.read(key.pad(config.slot, number), 0, 1)
        except PadNotFound:
            return False
        return True

    with Pool("init", 8) as pool:
        if any(pool.map(exists, range(FRESH_WINDOW + 1))):
            raise NoRoom(
                f"this key has data on {config.network} in slot {config.slot} already; get it back with 'anthill recover', "
                f"or make another one beside it with --slot {config.slot + 1}"
            )
