"""The bytes that the pad server's clients sign, as the document has them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anthill_sync.networks import wire

DOCUMENT = (Path(__file__).resolve().parent.parent / "docs" / "server.rst").read_text("utf-8")
SEED = bytes.fromhex("60aad5d4d1e812f781f9bab1f56c7f80803776dcf81938b637839065137e04d6")
SERVER = "000102030405060708090a0b0c0d0e0f"
ADDRESS = "6b852792864bff5b623dca459ca31730cc49f91c74838a820fada8b2f5f1ed23"


def shown(name: str) -> bytes:
    """The bytes that stand in hexadecimal below ``name``."""
    found = re.search(rf"^   {name}\n((?:      [0-9a-f]+\n)+)", DOCUMENT, re.MULTILINE)
    assert found
    return bytes.fromhex(found[1])


def test_the_documented_request_is_signed_as_documented() -> None:
    digest = blake3(b"image").digest(length=16)
    message = wire.signed_message("PUT", SERVER, ADDRESS, 258, digest)
    signature = Ed25519PrivateKey.from_private_bytes(SEED).sign(message)
    assert (shown("digest"), shown("signed"), shown("signature")) == (digest, message, signature)


def test_every_part_of_a_request_is_signed() -> None:
    whole: list[Any] = ["PUT", SERVER, ADDRESS, 258, bytes(16)]
    others = ("POST", "f" * 32, "0" * 64, 259, b"x" * 16)
    requests = [[*whole[:n], other, *whole[n + 1 :]] for n, other in enumerate(others)]
    changed = {wire.signed_message(*request) for request in requests}
    assert len(changed | {wire.signed_message(*whole)}) == 6


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "G" * 32, "A" * 32, "0" * 32 + "\n"])
def test_an_id_is_32_small_hexadecimal_characters(text: str) -> None:
    assert wire.is_id("0123456789abcdef" * 2)
    assert not wire.is_id(text)
