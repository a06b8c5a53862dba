"""URLs of object stores: ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix``. Pure, no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlsplit

from ..errors import ConfigurationError

SCHEMES = ("s3", "gs", "az")
HOW = "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix"

_OPTIONS = {"s3": ("endpoint", "region"), "gs": ("endpoint",), "az": ("account", "endpoint")}
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_PART = re.compile(r"[A-Za-z0-9._~-]+")  # of the prefix: what no server escapes or folds
_WORD = re.compile(r"[A-Za-z0-9-]{1,63}")  # a region, an account
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9._:\[\]-]+(?:/[A-Za-z0-9._~/-]*)?")


@dataclass(frozen=True)
class ObjectUrl:
    """Where the objects are. ``prefix`` is empty or ends with a slash; ``options`` are those of the query."""

    scheme: str
    bucket: str
    prefix: str
    options: Mapping[str, str]

    def __str__(self) -> str:
        """The one form in which it is kept."""
        where = f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")
        pairs = [f"{name}={quote(self.options[name], safe=':/[]')}" for name in sorted(self.options)]
        return where + ("?" + "&".join(pairs) if pairs else "")


def parse(scheme: str, rest: str) -> ObjectUrl:
    """What stands behind ``scheme:``. ``ConfigurationError`` says what to write and repeats nothing of the URL."""
    path, _, query = rest.partition("?")
    bucket, _, prefix = path.removeprefix("//").partition("/")
    parts = [part for part in prefix.split("/") if part]
    good = all(_PART.fullmatch(part) and part not in (".", "..") for part in parts)
    if not path.startswith("//") or "#" in rest or not _BUCKET.fullmatch(bucket) or not good:
        raise ConfigurationError(
            f"write {scheme}://{'container' if scheme == 'az' else 'bucket'}/prefix, the prefix (if any) of letters, digits, "
            "dots, dashes, underscores and slashes"
        )
    return ObjectUrl(scheme, bucket, "".join(f"{part}/" for part in parts), _options(scheme, query))


def _options(scheme: str, query: str) -> dict[str, str]:
    known = _OPTIONS[scheme]
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        pairs = [("", "")]
    options = dict(pairs)
    if not set(options) <= set(known) or len(options) != len(pairs):
        raise ConfigurationError(
            f"a {scheme}: URL takes {' and '.join(f'?{name}=' for name in known)}, each once, and nothing else; credentials come "
            "from the environment, a profile, or the objects.* settings"
        )
    return {name: _endpoint(text) if name == "endpoint" else _word(name, text) for name, text in options.items()}


def _word(name: str, text: str) -> str:
    if not _WORD.fullmatch(text):
        raise ConfigurationError(f"?{name}= is made of letters, digits and dashes")
    return text


def _endpoint(text: str) -> str:
    """An endpoint in one form: no slash at its end."""
    wrong = ConfigurationError("write ?endpoint=https://host or ?endpoint=http://host:port")
    try:
        parts = urlsplit(text)
        if not _ENDPOINT.fullmatch(text) or not parts.hostname or parts.port == 0:
            raise wrong
    except ValueError:
        raise wrong from None
    return text.rstrip("/")
