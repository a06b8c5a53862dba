"""Sealing and opening of blocks and pad tables; fingerprints and digests. Pure: no I/O but the random source.

A sealed thing is ``salt (32) | commitment (32) | ciphertext | tag (16)``. Its key and nonce derive
from a salt that is drawn anew for every seal and hedged with what is sealed, so no state that could
be restored, cloned or repeated decides about a nonce. ``docs/formats.rst`` describes every byte.
"""

from __future__ import annotations

import hmac
import os
import struct
from typing import NoReturn

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .errors import BlockDamaged, InvalidArgument
from .keys import MasterKey, Random

Buffer = bytes | bytearray | memoryview

OVERHEAD = 80  # bytes a seal adds to its plaintext
FINGERPRINT_SIZE = 16
DIGEST_SIZE = 16
DATA_ID_SIZE = 16

_RANDOM_SIZE = 32
_TAG_SIZE = 16
_PREFIX = struct.Struct("32s32s")  # salt, commitment
_DERIVED = struct.Struct("32s12s32s")  # key, nonce, commitment
_FORMAT = b"ANTHILL\x01"  # the last byte is the version
_BLOCK_DATA = struct.Struct("<8s8s16s16sQ")  # format, kind, store id, data id, chunk number
_TABLE_DATA = struct.Struct("<8s8s16s32s")  # format, kind, store id, address; then the pad's header

assert _PREFIX.size + _TAG_SIZE == OVERHEAD
assert (_DERIVED.size, _BLOCK_DATA.size, _TABLE_DATA.size) == (76, 56, 64)

# cryptography has these from 47 on; before, a seal and an opening into a buffer cost one more copy.
_IN_PLACE = hasattr(AESGCM, "encrypt_into") and hasattr(AESGCM, "decrypt_into")


def image_digest(data: Buffer) -> bytes:
    """BLAKE3 of a pad's image, its first 16 bytes; needs no key."""
    return blake3(data).digest(DIGEST_SIZE)


class Sealer:
    """Seals and opens for one store. May be used from any number of threads; keeps no buffer."""

    def __init__(self, key: MasterKey, slot: int, random: Random = os.urandom) -> None:
        self._data_key = key.data_key()
        self._table_key = key.table_key()
        self._hedge = HMAC(key.hedge_key(), SHA256())  # copied for every seal: its key is hashed once
        self._fingerprint_key = key.fingerprint_key()
        self._store_id = key.store_id(slot)
        self._random = random

    def __reduce__(self) -> NoReturn:
        raise TypeError("a sealer holds keys and does not pickle")

    def fingerprint(self, data: Buffer) -> bytes:
        """16 bytes that say, to the key's owner alone, whether a chunk's plaintext is unchanged."""
        return blake3(data, key=self._fingerprint_key).digest(FINGERPRINT_SIZE)

    def seal_block(self, data_id: bytes, chunk: int, plaintext: Buffer, fingerprint: bytes, out: memoryview) -> int:
        """Seal a chunk into the front of ``out``; the bytes written: ``len(plaintext) + OVERHEAD``.

        Call it once per (data id, chunk number) and repeat with the bytes. ``fingerprint`` is the
        plaintext's. ``ValueError`` when ``out`` is too small; then it holds nothing of use.
        """
        return self._seal(self._data_key, self._block_data(data_id, chunk), plaintext, fingerprint, out)

    def open_block(self, data_id: bytes, chunk: int, sealed: Buffer) -> bytes:
        """The chunk's plaintext; ``BlockDamaged`` unless it is exactly what was sealed under this name."""
        return self._open(self._data_key, self._block_data(data_id, chunk), sealed, _block_name(data_id, chunk))

    def open_block_into(self, data_id: bytes, chunk: int, sealed: Buffer, out: memoryview) -> int:
        """Open a chunk into the front of ``out``; the bytes written: ``len(sealed) - OVERHEAD``.

        ``BlockDamaged`` as ``open_block``; that part of ``out`` is zeros then. ``ValueError`` when
        ``out`` is too small.
        """
        data, what = self._block_data(data_id, chunk), _block_name(data_id, chunk)
        cipher, nonce, body = _unlock(self._data_key, sealed, what)
        target = out[: len(body) - _TAG_SIZE]
        try:
            _decrypt_into(cipher, nonce, body, data, target)
        except InvalidTag:
            target[:] = bytes(len(target))  # the library leaves unverified plaintext behind
            raise _damaged(what) from None
        return len(target)

    def seal_table(self, address: str, header: bytes, plaintext: bytes) -> bytes:
        """Seal a pad's table; it opens only with this pad's address and this very header."""
        out = bytearray(len(plaintext) + OVERHEAD)
        data = self._table_data(address, header)
        self._seal(self._table_key, data, plaintext, self.fingerprint(plaintext), memoryview(out))
        return bytes(out)

    def open_table(self, address: str, header: bytes, sealed: Buffer) -> bytes:
        """The table's plaintext; ``BlockDamaged`` unless all three belong together."""
        return self._open(self._table_key, self._table_data(address, header), sealed, f"the table of pad {address}")

    def _block_data(self, data_id: bytes, chunk: int) -> bytes:
        if len(data_id) != DATA_ID_SIZE:
            raise InvalidArgument(f"a data id has {DATA_ID_SIZE} bytes, not {len(data_id)}")
        return _BLOCK_DATA.pack(_FORMAT, b"block", self._store_id, data_id, chunk)

    def _table_data(self, address: str, header: bytes) -> bytes:
        if len(address) != 64:
            raise InvalidArgument(f"an address has 64 characters, not {len(address)}")
        return _TABLE_DATA.pack(_FORMAT, b"table", self._store_id, bytes.fromhex(address)) + header

    def _seal(self, secret: bytes, data: bytes, plaintext: Buffer, fingerprint: bytes, out: memoryview) -> int:
        length = len(plaintext) + OVERHEAD
        hedge = self._hedge.copy()
        hedge.update(self._random(_RANDOM_SIZE) + data + fingerprint)
        salt = hedge.finalize()
        cipher, nonce, commitment = _derive(secret, salt)
        _PREFIX.pack_into(out, 0, salt, commitment)
        _encrypt_into(cipher, nonce, plaintext, data, out[_PREFIX.size : length])
        return length

    def _open(self, secret: bytes, data: bytes, sealed: Buffer, what: str) -> bytes:
        cipher, nonce, body = _unlock(secret, sealed, what)
        try:
            return cipher.decrypt(nonce, body, data)
        except InvalidTag:
            raise _damaged(what) from None


def _derive(secret: bytes, salt: bytes) -> tuple[AESGCM, bytes, bytes]:
    key, nonce, commitment = _DERIVED.unpack(HKDF(SHA256(), _DERIVED.size, salt, None).derive(secret))
    return AESGCM(key), nonce, commitment


def _unlock(secret: bytes, sealed: Buffer, what: str) -> tuple[AESGCM, bytes, memoryview]:
    """Cipher, nonce and what they decrypt, once the commitment shows that the key is the sealing one."""
    if len(sealed) < OVERHEAD:
        raise _damaged(what)
    salt, claimed = _PREFIX.unpack_from(sealed)
    cipher, nonce, commitment = _derive(secret, salt)
    if not hmac.compare_digest(claimed, commitment):
        raise _damaged(what)
    return cipher, nonce, memoryview(sealed)[_PREFIX.size :]


def _encrypt_into(cipher: AESGCM, nonce: bytes, plaintext: Buffer, data: bytes, out: memoryview) -> None:
    if _IN_PLACE:
        cipher.encrypt_into(nonce, plaintext, data, out)
    else:
        out[:] = cipher.encrypt(nonce, plaintext, data)


def _decrypt_into(cipher: AESGCM, nonce: bytes, body: memoryview, data: bytes, out: memoryview) -> None:
    if _IN_PLACE:
        cipher.decrypt_into(nonce, body, data, out)
    else:
        out[:] = cipher.decrypt(nonce, body, data)


def _block_name(data_id: bytes, chunk: int) -> str:
    return f"block {chunk} of data {data_id.hex()}"


def _damaged(what: str) -> BlockDamaged:
    return BlockDamaged(f"{what} does not open: its bytes were changed, cut, or belong elsewhere")
