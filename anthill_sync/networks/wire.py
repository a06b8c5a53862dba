"""What the pad server and its client agree on: header names, the signed message, the facts. Pure, no I/O."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from .base import Pad

VERSION = 1  # of the HTTP interface; it stands in every path
SERVICE = "anthill"  # says in the facts that a server is one of ours
STATUS_PATH = f"/v{VERSION}/status"
PADS_PATH = f"/v{VERSION}/scratchpads/"

COUNTER = "Anthill-Counter"  # decimal
DIGEST = "Anthill-Digest"  # 32 hex characters
SIGNATURE = "Anthill-Signature"  # 128 hex characters
SERVER = "Anthill-Server"  # the server's id, 32 hex characters; the last of our headers, so where it is whole all are

MAX_COUNTER = 2**64 - 1
NO_DIGEST = bytes(16)

_ID = re.compile(r"[0-9a-f]{32}")
_SIGNED = struct.Struct("<16s4s16s32sQ16s")  # format, method, server id, address, counter, digest
_FORMAT = b"anthill-server 1"

assert _SIGNED.size == 92


@dataclass(frozen=True)
class Facts:
    """What ``GET /v1/status`` tells and a client pins."""

    server: str  # random id, made once
    pad_size: int  # largest image, bytes


def is_id(text: str) -> bool:
    """Whether ``text`` is a whole server id, or a whole digest: both are 16 bytes."""
    return _ID.fullmatch(text) is not None


def signed_message(method: str, server: str, address: str, counter: int = 0, digest: bytes = NO_DIGEST) -> bytes:
    """The 92 bytes whose Ed25519 signature allows one request; counter and digest are zeros where there are none."""
    name, home, pad = method.encode("ascii"), bytes.fromhex(server), bytes.fromhex(address)
    return _SIGNED.pack(_FORMAT, name, home, pad, counter, digest)


def signature_headers(pad: Pad, method: str, server: str, counter: int = 0, digest: bytes = NO_DIGEST) -> dict[str, str]:
    """The headers of a signed request."""
    signature = pad.sign(signed_message(method, server, pad.address, counter, digest)).hex()
    if not counter:
        return {SIGNATURE: signature}
    return {COUNTER: str(counter), DIGEST: digest.hex(), SIGNATURE: signature}
