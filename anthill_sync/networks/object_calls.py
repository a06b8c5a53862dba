"""Calls on the objects of one bucket; with ``object_stores`` and ``object_errors`` the only users of obstore.

Nothing is repeated here: obstore's own retries are off. Each call is one request.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import obstore
from obstore.store import ObjectStore

from ..errors import NetworkNotFound, ProtocolError, TransientNetworkError
from .base import Buffer, Image
from .detached import Detached
from .object_errors import FOREIGN, Missing, OutsideRange, Refused, Unsupported, translate

__all__ = ["Bucket", "Missing", "OutsideRange", "Refused", "Stored", "Tag", "Unsupported"]

# Metadata of an object. No hyphens, which Azure refuses, and no underscores, which proxies drop from headers.
COUNTER = "anthillcounter"  # decimal
DIGEST = "anthilldigest"  # 32 hex characters
_TYPE = {"Content-Type": "application/octet-stream"}

_POLL = 0.0005  # seconds between two looks at a buffer that a cancelled request still holds
_HELD = 20.0  # seconds until that must be over

T = TypeVar("T")


class Tag(NamedTuple):
    """What a store calls one state of an object: most compare the one, Google the other. Opaque."""

    e_tag: str | None
    version: str | None


@dataclass(frozen=True)
class Stored:
    """What a store tells about an object without its body."""

    size: int  # bytes
    tag: Tag | None
    counter: int | None  # of our metadata; None: it has none
    digest: bytes | None  # likewise, 16 bytes


class Bucket:
    """Objects named ``prefix`` and a name; ``where`` names the bucket in errors. ``newest`` is the same store, which asks
    for the newest of replicas that differ. Thread-safe."""

    def __init__(self, store: ObjectStore, newest: ObjectStore, *, prefix: str, where: str) -> None:
        self._store = store
        self._newest = newest
        self._prefix = prefix
        self._detached = Detached()
        self.where = where
        self.eventual = False  # its replicas may differ: that one does not know the bucket may pass

    def create(self, name: str, image: Image, *, marked: bool) -> Tag | None:
        """Write an object that must not be there yet; its tag. ``Refused`` when it is. ``marked``: with counter and
        digest as metadata."""
        return self._put(name, image, "create", marked)

    def replace(self, name: str, image: Image, *, marked: bool, tag: Tag | None = None) -> Tag | None:
        """Write an object, whatever is there; with ``tag`` only in the place of the state that has it."""
        named = {} if tag is None else {key: text for key, text in tag._asdict().items() if text is not None}
        return self._put(name, image, named or "overwrite", marked)

    def look(self, name: str) -> Stored | None:
        """One HEAD; None: there is no such object."""
        try:
            found = self._do("look at", name, lambda: obstore.get(self._newest, self._prefix + name, options={"head": True}))
        except Missing:
            return None
        return _stored(found)

    def read(self, name: str, offset: int, length: int | None, limit: int, *, newest: bool = True) -> tuple[memoryview, Stored]:
        """At most ``length`` bytes from ``offset`` (None: all), where the library has them, and what else is told.
        ``Missing``; ``OutsideRange`` where a range begins at the object's end or beyond; an object larger than ``limit`` is
        not ours: ``ProtocolError``."""
        options: Any = {}
        if length is not None:
            options = {"range": (offset, offset + length)}
        elif offset:
            options = {"range": {"offset": offset}}

        def get() -> tuple[memoryview, Stored]:
            found = obstore.get(self._newest if newest else self._store, self._prefix + name, options=options)
            stored = _stored(found)
            if stored.size > limit:
                raise ProtocolError(f"{self.where}: an object has {stored.size} bytes, more than a pad", pad=name)
            return memoryview(found.bytes()), stored

        return self._do("read", name, get)

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        try:
            self._do("delete", name, lambda: obstore.delete(self._store, self._prefix + name))
        except Missing:
            return

    def close(self) -> None:
        """Running calls fail at once; idle connections go with the store."""
        self._detached.close()

    def _put(self, name: str, image: Image, mode: Any, marked: bool) -> Tag | None:
        facts = {COUNTER: str(image.counter), DIGEST: image.digest.hex()} if marked else {}
        attributes: Any = {**_TYPE, **facts} if marked else None

        def put() -> Tag | None:
            with _Lent(image.data) as data:
                path = self._prefix + name
                return _tag(obstore.put(self._store, path, data, attributes=attributes, mode=mode, use_multipart=False))

        try:
            return self._do("write", name, put)
        except Missing:
            absent = NetworkNotFound(f"{self.where} answers a write as if there were no such bucket: make it first")
        raise self._passing(absent)

    def _do(self, step: str, name: str, action: Callable[[], T]) -> T:
        """The border. What is raised has no foreign error as its context: that one's text may hold secrets."""
        try:
            return self._detached.run(action)
        except FOREIGN as error:
            failure = translate(error, step, self.where, name)
        raise self._passing(failure)

    def _passing(self, failure: Exception) -> Exception:
        if self.eventual and isinstance(failure, NetworkNotFound):
            return TransientNetworkError(f"{failure}; or its servers do not find each other")
        return failure


class _Lent:
    """A caller's buffer for the time of one call. The library sends from it without a copy, on threads of its own, and
    a request that has timed out may hold it a moment longer than the call; it is given back only when that is over.
    Bytes never change, so they may be held for as long as anybody likes."""

    def __init__(self, data: Buffer) -> None:
        self._data = data if isinstance(data, bytes) else memoryview(data)

    def __enter__(self) -> bytes | memoryview:
        return self._data

    def __exit__(self, *_: object) -> None:
        if isinstance(self._data, bytes):
            return None
        ends = time.monotonic() + _HELD
        while True:
            try:
                return self._data.release()
            except BufferError:
                if time.monotonic() > ends:
                    raise
                time.sleep(_POLL)


def _tag(found: Any) -> Tag | None:
    tag = Tag(found["e_tag"], found["version"])
    return tag if any(tag) else None


def _stored(found: Any) -> Stored:
    attributes = {str(name).lower(): str(value) for name, value in found.attributes.items()}
    counter, digest = attributes.get(COUNTER, ""), attributes.get(DIGEST, "")
    return Stored(
        size=found.meta["size"],
        tag=_tag(found.meta),
        counter=int(counter) if re.fullmatch(r"[0-9]{1,20}", counter) else None,
        digest=bytes.fromhex(digest) if re.fullmatch(r"[0-9a-f]{32}", digest) else None,
    )
