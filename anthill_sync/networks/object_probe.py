"""What a store can do, found out by trying, once, when a store is made on it.

About 30 requests on one small object named ``probe-...``, which is removed. A store that does not keep what a pad
needs is refused with the reason: it has to show, within the retries that a call has, what was written, and to replace an
object as a whole.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from blake3 import blake3

from ..errors import AccessDenied, ConfigurationError, NetworkError, TransientNetworkError
from ..settings import KIB, Settings
from .base import Image
from .object_calls import Bucket, Missing, Refused, Stored, Tag, Unsupported
from .retrying import repeated

ONLY_CREATE = "create"  # a write can be made to fail where an object is; perhaps not atomically, which nothing relies on
IF_MATCH = "if-match"  # a write can be made to replace one state of an object and no other, atomically
METADATA = "metadata"  # counter and digest come back
RANGES = "ranges"  # a part of an object can be read
DELETE = "delete"  # objects can be removed; only the probe asks for that

T = TypeVar("T")

_RACERS = 4  # writers at the same moment
_REPLACEMENTS = 3  # while another thread reads
_LARGE, _SMALL = 64 * KIB, 1000  # bytes


def probe(bucket: Bucket, settings: Settings) -> tuple[str, ...]:
    """The abilities of ``bucket``; ``ConfigurationError`` when it cannot hold pads."""
    return _Probe(bucket, settings).run()


class _NotShown(TransientNetworkError):
    """What was written is not to be seen, yet."""


class _Probe:
    def __init__(self, bucket: Bucket, settings: Settings) -> None:
        self._bucket = bucket
        self._settings = settings
        self._name = f"probe-{secrets.token_hex(8)}"
        self._marks = True

    def run(self) -> tuple[str, ...]:
        self._absent()
        try:
            abilities = [*self._creating(), *self._replacing(), *self._reading()]
            self._replaced_whole()
        finally:
            removed = self._remove()
        return tuple(abilities + removed)

    def _again(self, action: Callable[[], T]) -> T:
        return repeated(self._settings, "probe", self._name, action)

    # -- the steps

    def _absent(self) -> None:
        """An object that is not there has to be called missing, and the bucket has to be there."""
        try:
            self._again(lambda: self._bucket.read(self._name, 0, None, _LARGE))
        except Missing:
            return
        except AccessDenied as error:
            more = "they must also be allowed to ask for what is not there, on AWS that is s3:ListBucket"
            raise AccessDenied(f"{error}; if the credentials are right, {more}") from None
        raise self._unfit("it shows objects that were never written")

    def _creating(self) -> list[str]:
        """Twice one after the other; and whether metadata come back."""
        found = self._created(_image(1, _LARGE))
        self._shown(_image(1, _LARGE))
        stored = self._again(lambda: self._bucket.look(self._name))
        self._marks = self._marks and stored is not None and (stored.counter, stored.digest) == (1, _image(1, _LARGE).digest)
        if found and self._refuses(lambda: self._bucket.create(self._name, _image(2, _SMALL), marked=self._marks)):
            abilities = [ONLY_CREATE]
        else:
            abilities = []
            self._write(_image(1, _LARGE))
        return [*abilities, METADATA] if self._marks else abilities

    def _created(self, image: Image) -> bool:
        """Write the first image: without a condition, or without metadata, where the store has none."""
        for marked in (True, False):
            try:
                self._again(partial(self._create_or_find, image, marked))
            except Unsupported:
                continue
            self._marks = marked
            return True
        self._write(image)
        return False

    def _create_or_find(self, image: Image, marked: bool) -> None:
        """A repeat after a lost answer is refused because the first one succeeded."""
        try:
            self._bucket.create(self._name, image, marked=marked)
        except Refused:
            return

    def _replacing(self) -> list[str]:
        """In the place of a state that is gone, of the one that is there, and several at once."""
        stale = self._shown(_image(1, _LARGE)).tag
        self._write(_image(2, _SMALL))
        current = self._shown(_image(2, _SMALL)).tag
        if stale is None or current is None or stale == current:
            return []

        def put(number: int, tag: Tag | None) -> object:
            return self._bucket.replace(self._name, _image(number, _SMALL), marked=self._marks, tag=tag)

        if not self._refuses(lambda: put(3, stale)) or self._refuses(lambda: put(4, current)):
            return []
        return [IF_MATCH] if self._winners(put) == 1 else []

    def _reading(self) -> list[str]:
        data = _image(9, _LARGE).data
        self._write(_image(9, _LARGE))
        self._shown(_image(9, _LARGE))
        try:
            part, _ = self._again(partial(self._read, 1000, 10))
        except NetworkError:
            return []
        return [RANGES] if part == data[1000:1010] else []

    def _replaced_whole(self) -> None:
        """While images of different lengths replace each other, readers see one or the other."""
        images = [_image(10 + number, _SMALL if number % 2 else _LARGE) for number in range(_REPLACEMENTS)]
        allowed = {bytes(image.data) for image in [_image(9, _LARGE), *images]}
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(self._write_all, images)
            while not writing.done():
                self._again(partial(self._read_one_of, allowed))
            writing.result()
        self._shown(images[-1])

    def _write_all(self, images: list[Image]) -> None:
        for image in images:
            self._write(image)

    def _read_one_of(self, allowed: set[bytes]) -> None:
        data, _ = self._read()
        if bytes(data) not in allowed:
            raise self._unfit("it shows parts of objects while they are replaced")

    def _remove(self) -> list[str]:
        """What may not be removed stays; nothing here ever needs to."""
        try:
            self._again(partial(self._bucket.delete, self._name))
        except (NetworkError, ConfigurationError):
            return []
        return [DELETE]

    # -- the tools

    def _write(self, image: Image) -> None:
        try:
            self._again(lambda: self._bucket.replace(self._name, image, marked=self._marks))
        except Unsupported:
            if not self._marks:
                raise self._unfit("it does not take objects") from None
            self._marks = False
            self._write(image)

    def _read(self, offset: int = 0, length: int | None = None) -> tuple[memoryview, Stored]:
        """One look at an object that has been written."""
        try:
            return self._bucket.read(self._name, offset, length, 2 * _LARGE)
        except Missing:
            raise _NotShown(f"{self._bucket.where} does not show an object that was written") from None

    def _shown(self, image: Image) -> Stored:
        """What is told about the object once it is ``image``."""

        def look() -> Stored:
            data, stored = self._read()
            if data != image.data:
                raise _NotShown("another image")
            return stored

        try:
            return self._again(look)
        except _NotShown:
            raise self._unfit("it does not show what was written to it, however often it is asked") from None

    def _refuses(self, write: Callable[[], object]) -> bool:
        """Whether a write is refused for its condition; one that is not understood is not."""
        try:
            self._again(write)
        except Refused:
            return True
        except Unsupported:
            return False
        return False

    def _winners(self, put: Callable[[int, Tag | None], object]) -> int:
        """How many of several writers at the same moment replace the same state; 0: none was let through, for Google
        allows an object one write in a second."""

        def attempt(number: int, tag: Tag | None) -> int:
            try:
                put(number, tag)
            except (Refused, TransientNetworkError):
                return 0
            return 1

        def race() -> int:
            tag = self._read()[1].tag
            with ThreadPoolExecutor(_RACERS) as pool:
                won = sum(pool.map(partial(attempt, tag=tag), range(20, 20 + _RACERS)))
            if not won:
                raise _NotShown(f"{self._bucket.where} took no write")
            return won

        try:
            return self._again(race)
        except _NotShown:
            return 0

    def _unfit(self, why: str) -> ConfigurationError:
        return ConfigurationError(f"{self._bucket.where} cannot hold pads: {why}")


def _image(number: int, size: int) -> Image:
    """Always the same bytes for a number and a size."""
    data = number.to_bytes(2, "big") * (size // 2)
    return Image(data, number, blake3(data).digest(length=16))
