"""Every limit, with its unit, default and environment name, and the memory they bound.

Precedence: option, ``ANTHILL_<NAME>`` in the environment, ``config.json``, default.

Memory of a put: ``upload_threads * 2 * pad_size + 5 * pad_size + 48 MiB``; of a get: 24 pads,
ciphertext and plaintext, + 48 MiB; plus the index, at most 700 bytes per block.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from .errors import ConfigurationError, InvalidArgument
from .rates import Timetable, parse_timetable

KIB = 1024
MIB = 1024 * KIB

DEFAULT_PAD_SIZE = 4 * MIB
MIN_PAD_SIZE = 16 * KIB
MAX_PAD_SIZE = 1024 * MIB
CHUNK_MARGIN = KIB  # chunk_size = pad_size - this: header, seal and table of a full chunk's pad
DOWNLOAD_WINDOW = 24  # pads of a get held in memory
READ_AHEAD = 4  # chunks that an open value reads ahead
STREAM_QUEUE = 4  # chunks of a stream read ahead
FRESH_WINDOW = 64  # no write starts more than this above the lowest never-written pad

_UNITS = {"": 1, "b": 1, "k": KIB, "kib": KIB, "m": MIB, "mib": MIB, "g": KIB * MIB, "gib": KIB * MIB,
          "t": MIB * MIB, "tib": MIB * MIB, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4}  # fmt: skip

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_size(text: str | int) -> int:
    """Bytes from ``4MiB``, ``512KiB`` or plain digits; ``InvalidArgument`` for anything else."""
    match = re.fullmatch(r"([0-9]{1,18})\s*([a-zA-Z]{0,3})", str(text).strip())
    if match is None or match[2].lower() not in _UNITS:
        raise InvalidArgument(f"not a size: {text!r}; write bytes as digits, or 512KiB, 4MiB, 1GiB")
    return int(match[1]) * _UNITS[match[2].lower()]


def parse_duration(text: str) -> float:
    """Seconds from ``90s``, ``30m``, ``26h``, ``8d``, ``1h30m``; ``InvalidArgument`` for anything else."""
    parts = re.findall(r"([0-9]{1,9})([smhd])", text.strip().lower())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip().lower():
        raise InvalidArgument(f"not a duration: {text!r}; write a whole number and its unit: 90s, 30m, 26h or 8d")
    return float(sum(int(number) * _SECONDS[unit] for number, unit in parts))


def _parse_rate(text: str | int) -> int:
    return parse_size(str(text).removesuffix("/s"))


def timetable(text: str) -> Timetable:
    """The rates that ``limit_upload`` or ``limit_download`` means."""
    return parse_timetable(text, _parse_rate)


def _parse_limit(text: str) -> str:
    return str(timetable(str(text)))


def _parse_bool(text: str | bool) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    try:
        return words[str(text).strip().lower()]
    except KeyError:
        raise InvalidArgument(f"not a yes or no: {text!r}; write true or false") from None


def _parse_confirm(text: str) -> str:
    if text not in ("paid", "always", "never"):
        raise InvalidArgument(f"not one of paid, always, never: {text!r}")
    return text


def _parse_positive(text: str | int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", str(text).strip()) or int(text) < 1:
        raise InvalidArgument(f"not a whole number of at least 1: {text!r}")
    return int(text)


def _parse_seconds(text: str | float) -> float:
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value <= 10**9:
        raise InvalidArgument(f"not a number of seconds: {text!r}")
    return value


def _parse_text(text: str) -> str:
    return str(text)


def _setting(default: Any, parse: Any, doc: str) -> Any:
    return field(default=default, metadata={"parse": parse, "doc": doc})


@dataclass(frozen=True)
class Settings:
    """All settings of one Store, resolved."""

    attempts: int = _setting(5, _parse_positive, "tries of one network call")
    retry_seconds: float = _setting(300.0, _parse_seconds, "seconds all tries of one network call may take")
    backoff_base: float = _setting(0.25, _parse_seconds, "seconds: upper end of the first random wait, doubled each time")
    backoff_cap: float = _setting(30.0, _parse_seconds, "seconds: longest random wait")
    connect_timeout: float = _setting(10.0, _parse_seconds, "seconds to connect")
    read_timeout: float = _setting(60.0, _parse_seconds, "seconds a peer may stay silent")
    deadline_base: float = _setting(60.0, _parse_seconds, "seconds one network call may take, plus its bytes at deadline_rate")
    deadline_rate: int = _setting(64 * KIB, _parse_rate, "bytes per second a peer must at least move")
    reserve_threads: int = _setting(20, _parse_positive, "threads that reserve pads")
    upload_threads: int = _setting(20, _parse_positive, "threads that seal and upload")
    download_threads: int = _setting(20, _parse_positive, "threads that download and open")
    limit_upload: str | None = _setting(None, _parse_limit, "bytes of images per second, or a timetable; unset: no limit")
    limit_download: str | None = _setting(None, _parse_limit, "bytes of blocks per second, or a timetable; unset: no limit")
    rewrite_limit: int = _setting(256 * KIB, parse_size, "bytes of live data that may be sent again to add a block to a pad")
    confirm: str = _setting("paid", _parse_confirm, "when to ask before reserving: paid, always, never")
    lock_wait: float | None = _setting(None, _parse_seconds, "seconds to wait for the lock; unset: 0 on a terminal, else 60")
    proxy: str | None = _setting(None, _parse_text, "URL of the HTTP proxy; unset: the usual environment variables")
    ca_file: str | None = _setting(None, _parse_text, "file of certificate authorities to trust")
    allow_plain_http: bool = _setting(False, _parse_bool, "allow http:// to another machine")
    passphrase_file: str | None = _setting(None, _parse_text, "file whose first line is the key's passphrase")
    passphrase_command: str | None = _setting(None, _parse_text, "command whose first line of output is the key's passphrase")
    objects: Mapping[str, str] = field(default_factory=dict, metadata={"doc": "objects.NAME: passed to the object store library"})

    def with_values(self, values: Mapping[str, Any], where: str) -> Settings:
        """These settings with ``values`` over them; ``where`` names their source in an error."""
        objects = dict(self.objects)
        changes: dict[str, Any] = {}
        for name, value in values.items():
            if name.startswith("objects.") and len(name) > 8:
                objects[name[8:]] = str(value)
            else:
                changes[name] = parse_setting(name, value, where)
        return replace(self, objects=objects, **changes)


SETTING_FIELDS = {f.name: f for f in fields(Settings) if f.name != "objects"}


def parse_setting(name: str, value: Any, where: str) -> Any:
    """The typed value of one setting; ``ConfigurationError`` names it, its source and what it takes."""
    known = SETTING_FIELDS.get(name)
    if known is None:
        raise ConfigurationError(f"unknown setting {name!r} in {where}; known: {', '.join(sorted(SETTING_FIELDS))}, objects.*")
    try:
        return known.metadata["parse"](value)
    except InvalidArgument as error:
        raise ConfigurationError(f"setting {name} in {where}: {error}") from None


def environment_name(name: str) -> str:
    """``ANTHILL_UPLOAD_THREADS`` for ``upload_threads``."""
    return "ANTHILL_" + name.upper()


def resolve(
    stored: Mapping[str, Any], options: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """The settings in force: ``options`` over the environment over ``stored`` (config.json) over defaults."""
    environ = os.environ if environ is None else environ
    from_environment = {name: environ[environment_name(name)] for name in SETTING_FIELDS if environment_name(name) in environ}
    settings = Settings().with_values(stored, "config.json").with_values(from_environment, "the environment")
    return settings.with_values(options or {}, "the options")


def check_pad_size(pad_size: int) -> int:
    """``pad_size`` itself, in bytes, or ``InvalidArgument``."""
    if not MIN_PAD_SIZE <= pad_size <= MAX_PAD_SIZE:
        raise InvalidArgument(f"pad size {pad_size} is not between {MIN_PAD_SIZE} (16KiB) and {MAX_PAD_SIZE} (1GiB) bytes")
    return pad_size
