"""The networks that can hold pads, and the one place that turns a URL into one of them.

Importing this package imports no network: each is imported when a URL names it. No error here
repeats any part of a URL but its scheme, for a URL typed wrongly may hold a password.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

from .. import durable
from ..errors import ConfigurationError
from ..settings import Settings
from .base import Network

_HOW = (
    "write dir:///path/to/folder, dir:relative/folder, https://host, http://host:port, s3://bucket/prefix, gs://bucket/prefix, "
    "az://container/prefix or memory://name"
)
_OBJECTS = ("s3", "gs", "az")
_SERVERS = ("http", "https")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
_PREFIX = re.compile(r"[A-Za-z0-9._~/-]*")  # of a server behind a proxy that serves more than one
_MEMORY_NAME = re.compile(r"//[A-Za-z0-9._-]+")
_PLAIN_IN_PATHS = "/@:+,=~"  # everything else outside letters, digits and _.- is percent-encoded


def open_network(url: str, *, pad_size: int, base: Path, settings: Settings, facts: Mapping[str, Any] | None = None) -> Network:
    """The network that ``url`` names, without retries around it.

    ``pad_size`` is in bytes; a relative ``dir:`` path is taken from ``base``; ``settings`` are for
    the networks that keep time-outs and connections. ``facts`` are the properties probed when the
    store was made: with them nothing is contacted yet, without them a pad server is asked for its
    own, and an object store is tried. ``ConfigurationError`` says what to write.
    """
    scheme, rest = _split(url)
    if scheme in _SERVERS:
        from .http import open_http

        return open_http(_server_url(scheme, rest), settings=settings, facts=facts or {})
    if scheme in _OBJECTS:
        return _open_objects(scheme, rest, pad_size, settings, facts or {})
    return _OPENERS[scheme](rest, pad_size, base)


def normalise_url(url: str, cwd: Path) -> str:
    """``url`` as it is kept: a relative ``dir:`` path becomes absolute, seen from ``cwd``.

    The result normalises to itself. ``ConfigurationError`` says what to write instead.
    """
    scheme, rest = _split(url)
    if scheme == "memory":
        return f"memory:{_memory_name(rest)}"
    if scheme in _SERVERS:
        return _server_url(scheme, rest)
    if scheme in _OBJECTS:
        from .object_urls import parse

        return str(parse(scheme, rest))
    path = (cwd / _folder(rest)).absolute()
    return "dir://" + quote(os.fsencode(path), safe=_PLAIN_IN_PATHS)


def prepare_network(url: str, *, base: Path) -> None:
    """Make what a new store's network needs to be there: the folder of a ``dir:`` URL, not its parents.

    ``ConfigurationError`` when it cannot be made.
    """
    scheme, rest = _split(url)
    if scheme != "dir":
        return
    folder = base / _folder(rest)
    try:
        durable.make_folder(folder)
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as error:
        raise ConfigurationError(f"the network's folder {folder} cannot be made: {error.strerror}") from error


def _split(url: str) -> tuple[str, str]:
    """Scheme and the rest after its colon, of a URL this version can open."""
    scheme, colon, rest = url.partition(":")
    scheme = scheme.lower()
    if not colon or not _SCHEME.fullmatch(scheme):
        raise ConfigurationError(f"a network URL begins with its scheme: {_HOW}")
    _refuse_credentials(scheme, rest)
    if scheme not in (*_OPENERS, *_SERVERS, *_OBJECTS):
        raise ConfigurationError(f"unknown network scheme {scheme!r}: {_HOW}")
    if scheme not in _OBJECTS and ("?" in rest or "#" in rest):
        if scheme in _SERVERS:
            raise ConfigurationError(f"a {scheme}: URL takes no query: write {scheme}://host or {scheme}://host:port")
        raise ConfigurationError(f"a {scheme}: URL takes no query; in a folder's name write %3F for ? and %23 for #")
    return scheme, rest


def _refuse_credentials(scheme: str, rest: str) -> None:
    """Only the path of a ``dir:`` URL may have an ``@`` in it."""
    is_path = scheme == "dir" and (rest.startswith("///") or not rest.startswith("//"))
    if "@" in rest and not is_path:
        raise ConfigurationError("credentials never stand in a network URL; take everything up to the @ out of it")


def _folder(rest: str) -> Path:
    """The path, absolute or relative, of what stands behind ``dir:``."""
    if rest.startswith("//"):
        if not rest.startswith("///"):
            raise ConfigurationError("dir:// takes no host: write dir:///path (three slashes) or dir:relative")
        rest = "/" + rest.lstrip("/")
    path = os.fsdecode(unquote_to_bytes(os.fsencode(rest)))
    if not path.strip("/") or "\0" in path:
        raise ConfigurationError("a dir: URL names a folder: write dir:///path/to/folder or dir:relative/folder")
    if path.startswith("~"):
        raise ConfigurationError("~ is not expanded in a dir: URL: write dir:///home/you/folder, or dir:./~name for such a name")
    return Path(path)


def _memory_name(rest: str) -> str:
    if not _MEMORY_NAME.fullmatch(rest):
        raise ConfigurationError("write memory://name, the name of letters, digits, dots, dashes and underscores")
    return rest


def _server_url(scheme: str, rest: str) -> str:
    """The URL of a pad server in one form: small letters, no slash at its end."""
    wrong = ConfigurationError(f"write {scheme}://host or {scheme}://host:port, the address of a pad server")
    try:
        parts = urlsplit(f"{scheme}:{rest}")
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        raise wrong from None
    if not _HOST.fullmatch(parts.hostname or "") or not _PREFIX.fullmatch(parts.path):
        raise wrong
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{scheme}://{host}{port}{parts.path.rstrip('/')}"


def _open_objects(scheme: str, rest: str, pad_size: int, settings: Settings, facts: Mapping[str, Any]) -> Network:
    try:
        from .objects import open_objects
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise ConfigurationError(f"{scheme}:// needs one more package: pip install 'anthill_sync[objects]'") from error
    return open_objects(scheme, rest, pad_size=pad_size, settings=settings, facts=facts)


def _open_directory(rest: str, pad_size: int, base: Path) -> Network:
    from .directory import DirectoryNetwork

    return DirectoryNetwork(base / _folder(rest), pad_size)


def _open_memory(rest: str, pad_size: int, base: Path) -> Network:
    from .memory import MemoryNetwork

    return MemoryNetwork.named(_memory_name(rest)[2:], pad_size)


_OPENERS: dict[str, Callable[[str, int, Path], Network]] = {"dir": _open_directory, "memory": _open_memory}
