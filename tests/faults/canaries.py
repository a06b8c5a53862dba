"""Secrets that can be recognised wherever they turn up, whole or in part, in any usual encoding; and where they may."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from anthill_sync.keys import MasterKey

from .campaign import Campaign

RAW, TEXT, NUMBERS = 10, 16, 24  # characters in a row that are no chance: of bytes, of letters, of "12, 34, 56"


@dataclass(frozen=True)
class Canary:
    """A secret, and the traces it would leave: ``whole`` is its bytes."""

    name: str
    whole: bytes

    def traces(self) -> set[bytes]:
        """Parts of every encoding, such that whatever holds one and a half times as much holds one of them."""
        return {part for text, size in encodings(self.whole) for part in parts(text, size)}


def parts(text: bytes, size: int) -> Iterator[bytes]:
    """Pieces that overlap by half; all of a short one."""
    size = min(size, len(text))
    for start in range(0, len(text) - size + 1, max(1, size // 2)):
        yield text[start : start + size]


def encodings(secret: bytes) -> Iterator[tuple[bytes, int]]:
    """The bytes themselves, and as dumps, dictionaries and files would show them; and what part of it is no chance."""
    yield secret, RAW
    yield secret.hex().encode(), TEXT
    yield secret.hex().upper().encode(), TEXT
    yield repr(secret)[2:-1].encode(), NUMBERS
    yield ", ".join(map(str, secret)).encode(), NUMBERS
    for lost in range(3):  # what stands before the secret shifts its letters
        inside = secret[lost : len(secret) - (len(secret) - lost) % 3]
        yield base64.b64encode(inside), TEXT
        yield base64.urlsafe_b64encode(inside), TEXT
    for lost in range(5):
        inside = secret[lost : len(secret) - (len(secret) - lost) % 5]
        text = base64.b32encode(inside).decode()
        for each in (text, text.lower(), "-".join(text[start : start + 4] for start in range(0, len(text), 4))):
            yield each.encode(), TEXT


def of_key(key: MasterKey, pads: Iterable[int]) -> list[Canary]:
    """The master key and all that is derived from it and secret."""
    secrets = {
        "master key": key.secret,
        "data key": key.data_key(),
        "table key": key.table_key(),
        "hedge key": key.hedge_key(),
        "fingerprint key": key.fingerprint_key(),
    }
    seeds = {f"seed of pad {pad}": key.pad_seed(0, pad) for pad in pads}
    return [Canary(name, secret) for name, secret in {**secrets, **seeds}.items()]


def found(canaries: Iterable[Canary], place: bytes | bytearray) -> list[str]:
    """Which of them have left a trace in ``place``."""
    return [canary.name for canary in canaries if any(trace in place for trace in canary.traces())]


class Places:
    """Everything that was heard, by where."""

    def __init__(self) -> None:
        self.heard: dict[str, bytearray] = {}

    def add(self, place: str, data: bytes) -> None:
        self.heard.setdefault(place, bytearray()).extend(data + b"\n")

    def add_files(self, place: str, root: Path, *, but: Sequence[str] = ()) -> None:
        """Names and contents of all files below ``root``."""
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.name not in but:
                self.add(place, bytes(path.relative_to(root)) + b"\n" + path.read_bytes())


SEALED = ("key", "passphrase", "value", "name")  # nowhere outside of this machine, and in no log
FORBIDDEN: dict[str, tuple[str, ...]] = {
    "wire": SEALED,
    "pads of the server": SEALED,
    "pads of the embedded network": SEALED,
    "log file": SEALED,
    "log of a bug": SEALED,
    "logs of all libraries": SEALED,
    "stdout": ("key", "passphrase", "value"),
    "stderr": ("key", "passphrase", "value"),
    "index and config": ("key", "passphrase", "value"),
    "wrapped key file": ("key", "passphrase"),
    "errors": ("key", "passphrase", "value"),
    "locals in tracebacks": ("key", "passphrase"),
    "representations": SEALED,
    "process": ("key", "passphrase", "value"),
}
BELONGS = {"stdout": "name", "stderr": "name", "index and config": "name", "plain key file": "key", "restored files": "value"}


def search(run: Campaign, places: Places, canaries: dict[str, list[Canary]]) -> None:
    """Every place for every canary; and those that have to be found are, or nothing is proved."""
    for place, heard in places.heard.items():
        for kind in FORBIDDEN.get(place, ()):
            for canary in canaries[kind]:
                with run.case(f"{place}: {kind}", canary.name):
                    assert not found([canary], heard), f"found in {len(heard)} bytes"
        wanted = BELONGS.get(place)
        if wanted is not None:
            with run.case(f"{place}: {wanted} belongs there"):
                assert found(canaries[wanted], heard), "nothing was found where it has to be"
