"""Pads as objects of an object store: S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage.

A pad is the object ``prefix/address``. Reserving asks nobody: an address is ours by derivation, and the first write of a
pad only creates. What a store can do is probed when a store is made; nothing here depends on its brand.
"""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from blake3 import blake3

from ..errors import PadConflict, PadNotFound, TransientNetworkError
from ..settings import Settings
from .base import Buffer, Image, Pad, Properties, any_replica_will_do
from .local import check_fits
from .object_calls import Bucket, Missing, OutsideRange, Refused, Stored, Tag
from .object_probe import IF_MATCH, METADATA, ONLY_CREATE, RANGES, probe
from .object_stores import open_store
from .object_urls import parse

_MAGIC = b"APAD"  # an image's header begins with it
_HEADER = struct.Struct("<4s4xQ")  # magic, version and flags, counter
_REMEMBERED = 4096  # pads whose last image of this process is remembered, about 2 MiB


def open_objects(scheme: str, rest: str, *, pad_size: int, settings: Settings, facts: Mapping[str, Any]) -> ObjectNetwork:
    """The network at ``scheme:rest`` for pads of ``pad_size`` bytes; the store is probed unless ``facts`` tell."""
    url = parse(scheme, rest)
    connections = settings.reserve_threads + settings.upload_threads + settings.download_threads
    strong = IF_MATCH in facts.get("abilities", ())
    stores = [open_store(url, settings, pad_size=pad_size, connections=connections, newest=n) for n in (False, not strong)]
    bucket = Bucket(*stores, prefix=url.prefix, where=f"{url.scheme}://{url.bucket}")
    try:
        abilities = tuple(facts["abilities"]) if "abilities" in facts else probe(bucket, settings)
    except BaseException:
        bucket.close()
        raise
    return ObjectNetwork(bucket, scheme=scheme, pad_size=pad_size, connections=connections, abilities=abilities)


@dataclass(frozen=True)
class _Ours:
    """The image this process wrote last to a pad."""

    counter: int
    digest: bytes
    size: int
    tag: Tag | None
    proven: bool  # by the write's own answer, which nobody has asked for yet


class ObjectNetwork:
    """Pads of at most ``pad_size`` bytes in ``bucket``, which has ``abilities``; see ``object_probe``.

    With conditional writes a store compares an object's state by itself, so its answer to a write is proof; and
    ``write`` compares counters. Other stores may be eventual: what this process has just written and does not see yet is
    a failure that may pass, and ``confirm`` looks, but for an image that was to create its object and did: the answer
    tells that it is kept. (A look would cost a third of the put on Swift, and of two homes that create one pad in the same
    moment it noticed only those whose requests ended in a certain order.) ``_lock`` guards ``_ours``; no call is made
    under it.
    """

    def __init__(self, bucket: Bucket, *, scheme: str, pad_size: int, connections: int, abilities: tuple[str, ...]) -> None:
        self._bucket = bucket
        self._creates = ONLY_CREATE in abilities
        self._marks = METADATA in abilities
        self._ranges = RANGES in abilities
        self._strong = IF_MATCH in abilities
        self._compares = self._strong and self._marks
        self._unanswered: dict[str, bytes] = {}  # address -> digest of a write whose answer was lost
        self._ours: OrderedDict[str, _Ours] = OrderedDict()
        self._lock = threading.Lock()
        bucket.eventual = not self._strong
        self._properties = Properties(
            scheme=scheme,
            pad_size=pad_size,
            rewritable=True,
            compares_counters=self._compares,
            reservation_is_paid=False,
            write_is_paid=False,
            connections=connections,
            shows_reservations=False,
            eventual=not self._strong,
            keeps_digests=self._marks,
            abilities=abilities,
        )

    @property
    def properties(self) -> Properties:
        """Facts that do not change while the network is open."""
        return self._properties

    def reserve(self, pad: Pad) -> None:
        """Nothing: the pad's first write only creates, and tells whether it was free."""

    def write(self, pad: Pad, image: Image) -> None:
        """Send the image; after a lost answer, look first whether it has arrived."""
        check_fits(pad, image, self._properties.pad_size)
        if self._unanswered.get(pad.address) != image.digest or not self._arrived(pad, image):
            self._send(pad, image)
        self._unanswered.pop(pad.address, None)

    def confirm(self, pad: Pad, digest: bytes) -> None:
        """Free of cost where the write's answer proved it; otherwise one look, or where the store keeps no metadata one
        read."""
        ours = self._remembered(pad)
        just_written = ours is not None and ours.digest == digest
        if ours is not None and just_written and self._take_proof(pad, ours):
            return
        stored = self._look(pad)
        if stored is None and not just_written:
            raise PadNotFound(f"pad {pad.address} was never written", pad=pad.address)
        whole = ours is None or stored is None or not just_written or stored.size == ours.size
        if stored is not None and stored.digest == digest and whole:
            return
        if ours is not None and just_written and (stored is None or (stored.counter or 0) < ours.counter):
            self._not_yet(pad)
        raise PadConflict(f"pad {pad.address} holds another image than the one written", pad=pad.address)

    def read(self, pad: Pad, offset: int = 0, length: int | None = None) -> Buffer:
        """The image, or a range of it, in one request."""
        size = self._properties.pad_size
        if length == 0 or offset >= size:
            return self._nothing(pad)
        if not self._ranges:
            end = None if length is None else offset + length
            return self._read(pad, 0, None)[offset:end]
        try:
            return self._read(pad, offset, None if length is None else min(length, size - offset))
        except OutsideRange:
            return self._nothing(pad)

    def close(self) -> None:
        """Leave running calls behind: they fail at once here, and end by their own deadlines."""
        self._bucket.close()

    # -- writing

    def _send(self, pad: Pad, image: Image) -> None:
        before = self._forget(pad)
        try:
            tag = self._first(pad, image) if image.counter == 1 else self._later(pad, image, before)
        except Refused:
            tag = self._resolve(pad, image)
        except TransientNetworkError:
            self._unanswered[pad.address] = image.digest
            raise
        self._remember(pad, image, tag, proven=image.counter == 1 and self._creates and self._marks)

    def _first(self, pad: Pad, image: Image) -> Tag | None:
        if self._creates:
            return self._bucket.create(pad.address, image, marked=self._marks)
        if self._bucket.look(pad.address) is not None:
            raise Refused
        return self._bucket.replace(pad.address, image, marked=self._marks)

    def _later(self, pad: Pad, image: Image, before: _Ours | None) -> Tag | None:
        """Where counters are compared here, in the place of the image before this one and of no other; our own write of it
        may be remembered, which saves a look."""
        if not self._compares:
            return self._bucket.replace(pad.address, image, marked=self._marks)
        tag = before.tag if before is not None and before.counter == image.counter - 1 else None
        if tag is None:
            stored = self._predecessor(pad, image)
            if stored.digest == image.digest:
                return stored.tag
            tag = stored.tag
        return self._bucket.replace(pad.address, image, marked=self._marks, tag=tag)

    def _predecessor(self, pad: Pad, image: Image) -> Stored:
        """What is stored: the image that this one replaces, or this one itself."""
        stored = self._bucket.look(pad.address)
        if stored is None:
            raise PadNotFound(f"pad {pad.address}: the image to be replaced is gone", pad=pad.address)
        counter = self._counter(pad) if stored.counter is None else stored.counter
        if stored.digest != image.digest and counter != image.counter - 1:
            found = "no counter of ours" if counter is None else f"counter {counter}, not {image.counter - 1}"
            raise PadConflict(f"pad {pad.address} holds another image than this store left ({found})", pad=pad.address)
        return stored

    def _counter(self, pad: Pad) -> int | None:
        """From the image itself, where a copy of the bucket has lost the metadata; None: that is none of ours."""
        data = self.read(pad, 0, _HEADER.size)
        magic, counter = _HEADER.unpack(data) if len(data) == _HEADER.size else (b"", 0)
        return int(counter) if magic == _MAGIC else None

    def _resolve(self, pad: Pad, image: Image) -> Tag | None:
        """A write was refused, perhaps because an earlier attempt, whose answer was lost, has succeeded."""
        stored = self._look(pad)
        if stored is not None and stored.digest == image.digest:
            return stored.tag
        if image.counter > 1:
            self._predecessor(pad, image)
        elif stored is not None:
            raise PadConflict(f"pad {pad.address} holds another image, and this would be its first", pad=pad.address)
        raise TransientNetworkError(f"pad {pad.address}: another write was under way", pad=pad.address)

    def _arrived(self, pad: Pad, image: Image) -> bool:
        """Whether an image is there whose answer was lost. A store that takes writes may be unable to tell, with most
        replicas of this object away; then it is sent again, which is as safe."""
        try:
            stored = self._look(pad)
        except TransientNetworkError:
            return False
        if stored is None or stored.digest != image.digest:
            return False
        self._remember(pad, image, stored.tag, proven=False)
        return True

    # -- reading

    def _look(self, pad: Pad) -> Stored | None:
        """What the store tells; the digest is computed from the whole image where it is not kept."""
        stored = self._bucket.look(pad.address)
        if stored is None or stored.digest is not None:
            return stored
        try:
            data, stored = self._bucket.read(pad.address, 0, None, self._properties.pad_size)
        except Missing:
            return None
        return replace(stored, digest=blake3(data).digest(length=16))

    def _read(self, pad: Pad, offset: int, length: int | None) -> memoryview:
        ours = None if self._strong else self._remembered(pad)  # before: what is written meanwhile need not be seen
        try:
            newest = not any_replica_will_do()
            data, stored = self._bucket.read(pad.address, offset, length, self._properties.pad_size, newest=newest)
        except Missing:
            self._missing(pad)
        if ours is not None and stored.counter is not None and stored.counter < ours.counter:
            self._not_yet(pad)
        return data

    def _nothing(self, pad: Pad) -> bytes:
        """No byte of a pad that is there."""
        if self._bucket.look(pad.address) is None:
            self._missing(pad)
        return b""

    def _missing(self, pad: Pad) -> NoReturn:
        if not self._strong and self._remembered(pad) is not None:
            self._not_yet(pad)
        raise PadNotFound(f"pad {pad.address} was never written", pad=pad.address)

    def _not_yet(self, pad: Pad) -> NoReturn:
        where = self._bucket.where
        raise TransientNetworkError(f"{where} does not show yet what was just written to pad {pad.address}", pad=pad.address)

    # -- what was just written

    def _remember(self, pad: Pad, image: Image, tag: Tag | None, *, proven: bool) -> None:
        with self._lock:
            self._ours[pad.address] = _Ours(image.counter, image.digest, len(image.data), tag, proven)
            while len(self._ours) > _REMEMBERED:
                self._ours.popitem(last=False)

    def _take_proof(self, pad: Pad, ours: _Ours) -> bool:
        """True where the write's answer proved it, and no other writer can have come since without being noticed: where
        nothing is compared that is for once, and whoever asks later wants to know what is there by then."""
        if self._strong or not ours.proven:
            return self._strong
        with self._lock:
            self._ours[pad.address] = replace(ours, proven=False)
        return True

    def _forget(self, pad: Pad) -> _Ours | None:
        with self._lock:
            return self._ours.pop(pad.address, None)

    def _remembered(self, pad: Pad) -> _Ours | None:
        with self._lock:
            return self._ours.get(pad.address)
