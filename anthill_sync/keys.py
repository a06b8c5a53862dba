"""The master key: 32 random bytes from which everything secret derives, and the text file they are kept in.

Losing the key file loses everything: the index holds no secrets, and the key, the slot and the
network's URL are enough to find everything again. ``docs/formats.rst`` describes every byte.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import shlex
import struct
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from .errors import (
    ConfigurationError,
    IndexDamaged,
    InvalidArgument,
    LocalIOError,
    PermissionRefused,
    UnknownFormat,
    WrongPassphrase,
)
from .paper import from_paper, is_paper
from .private_files import check_private

if TYPE_CHECKING:  # the library takes 12 ms to load: who lists keys signs and seals nothing
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Random = Callable[[int], bytes]  # a random source: so many bytes

SECRET_SIZE = 32
ADDRESS_CACHE = 4096  # addresses kept per master key, about 1 MiB

_NAME = "anthill-key"
_WRAPPED_NAME = "anthill-key-wrapped"
_VERSION = "1"
_HEADS = {name: f"{name} {_VERSION}" for name in (_NAME, _WRAPPED_NAME)}
_CHECKSUM_SIZE = 8
_GROUP = 4  # base32 characters between hyphens, for who types a key from paper
_MAX_FILE_SIZE = 4096

_WRAP = struct.Struct(">BBB16s48s")  # log2 of scrypt's N, r, p, salt, sealed secret (32 + tag 16)
_SCRYPT = (17, 8, 1)  # what is written: 128 MiB and about half a second for every guess
_MAX_SCRYPT = (20, 16, 4)  # what is read
_MAX_SCRYPT_BYTES = 1 << 30


@dataclass(frozen=True)
class MasterKey:
    """32 secret bytes and what derives from them by HKDF-SHA256, a label each.

    May be used from any number of threads. Its ``repr`` shows nothing, and it does not pickle:
    a secret that crosses a process border ends in places nobody looks after.
    """

    secret: bytes = field(repr=False)
    _extracted: bytes = field(init=False, repr=False, compare=False)
    _address: Callable[[int, int], str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.secret) != SECRET_SIZE:
            raise InvalidArgument(f"a master key has {SECRET_SIZE} bytes")
        extracted = hmac.digest(_HEADS[_NAME].encode(), self.secret, "sha256")
        object.__setattr__(self, "_extracted", extracted)
        object.__setattr__(self, "_address", lru_cache(ADDRESS_CACHE)(partial(_address, extracted)))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a master key does not pickle: hand over the path of its key file")

    @classmethod
    def generate(cls) -> MasterKey:
        """A new key from the operating system's random source."""
        return cls(os.urandom(SECRET_SIZE))

    def pad_seed(self, slot: int, number: int) -> bytes:
        """The 32-byte Ed25519 seed of pad ``number`` of the store in ``slot``."""
        return _pad_seed(self._extracted, slot, number)

    def pad(self, slot: int, number: int) -> PadKey:
        """Name and signature of pad ``number``; nothing is derived before it is asked for."""
        return PadKey(number, slot, self)

    def address(self, slot: int, number: int) -> str:
        """The pad's address; the last ``ADDRESS_CACHE`` ones are remembered."""
        return self._address(slot, number)

    def store_id(self, slot: int) -> bytes:
        """16 bytes that tie blocks and tables to the store in ``slot``."""
        return _expand(self._extracted, f"store/{slot}", 16)

    def data_key(self) -> bytes:
        """32 bytes: seals blocks."""
        return _expand(self._extracted, "data")

    def table_key(self) -> bytes:
        """32 bytes: seals pad tables."""
        return _expand(self._extracted, "table")

    def hedge_key(self) -> bytes:
        """32 bytes: mixed into every salt, so a weak random source alone repeats none."""
        return _expand(self._extracted, "hedge")

    def fingerprint_key(self) -> bytes:
        """32 bytes: keys the fingerprints of chunks."""
        return _expand(self._extracted, "fingerprint")


@dataclass(frozen=True)
class PadKey:
    """One pad's name and its owner's signature: what a network needs to know of it."""

    number: int
    slot: int
    master: MasterKey = field(repr=False)

    @property
    def address(self) -> str:
        """Hex of the pad's Ed25519 public key, 64 characters."""
        return self.master.address(self.slot, self.number)

    def sign(self, message: bytes) -> bytes:
        """Ed25519 signature of ``message``, 64 bytes."""
        return _private(self.master.pad_seed(self.slot, self.number)).sign(message)


def _expand(extracted: bytes, label: str, length: int = 32) -> bytes:
    """HKDF-Expand (RFC 5869) of at most 32 bytes, for which it is a single HMAC."""
    return hmac.digest(extracted, label.encode("ascii") + b"\x01", "sha256")[:length]


def _pad_seed(extracted: bytes, slot: int, number: int) -> bytes:
    return _expand(extracted, f"pad/{slot}/{number}")


def _address(extracted: bytes, slot: int, number: int) -> str:
    return _private(_pad_seed(extracted, slot, number)).public_key().public_bytes_raw().hex()


def _private(seed: bytes) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed)


# -- the key file's text


def encode_key(key: MasterKey) -> str:
    """The key file's text, one line with its newline. Anyone who reads it can read the store."""
    return _encode_line(_NAME, key.secret)


def encode_wrapped_key(key: MasterKey, passphrase: str, random: Random = os.urandom) -> str:
    """The same, sealed with ``passphrase``. Takes 128 MiB of memory and about half a second.

    ``InvalidArgument`` for an empty passphrase.
    """
    if not passphrase:
        raise InvalidArgument("an empty passphrase protects nothing; leave it away or write one")
    salt = random(16)
    cipher, nonce = _passphrase_cipher(passphrase, _SCRYPT, salt)
    return _encode_line(_WRAPPED_NAME, _WRAP.pack(*_SCRYPT, salt, cipher.encrypt(nonce, key.secret, _wrap_data(_SCRYPT, salt))))


def is_wrapped(text: str) -> bool:
    """True when the key in ``text`` opens with a passphrase only. Looks at the first words alone."""
    words = text.lower().split()
    return words[2 * is_paper(text) :][:1] == [_WRAPPED_NAME]


def key_line(text: str, where: str) -> str:
    """The key file's one line, checked but not opened, from what a key file or a paper holds; errors as ``decode_key``."""
    return _encode_line(*_decode_line(text, where))


def decode_key(text: str, passphrase: str | None, where: str) -> MasterKey:
    """The key in a key file's ``text``; ``where`` names the file in errors.

    White space around it, lower case, and spaces or hyphens between groups do not matter; a key
    that is not wrapped needs no passphrase and ignores one. A text for paper is read as well.
    ``IndexDamaged`` for a typo or a truncated line, ``UnknownFormat`` for another version,
    ``ConfigurationError`` where a passphrase is needed and there is none, ``WrongPassphrase`` where
    it does not open the key.
    """
    name, payload = _decode_line(text, where)
    if name == _NAME:
        if len(payload) != SECRET_SIZE:
            raise _damaged(where)
        return MasterKey(payload)
    if passphrase is None:
        raise ConfigurationError(
            f"the key in {where} is wrapped by a passphrase: name a file that holds it with --passphrase-file FILE "
            "or ANTHILL_PASSPHRASE_FILE, or a command that prints it with --passphrase-command COMMAND"
        )
    return _unwrap(payload, passphrase, where)


def _unwrap(payload: bytes, passphrase: str, where: str) -> MasterKey:
    from cryptography.exceptions import InvalidTag

    if len(payload) != _WRAP.size:
        raise _damaged(where)
    log_n, r, p, salt, sealed = _WRAP.unpack(payload)
    scrypt = (log_n, r, p)
    _check_scrypt(scrypt, where)
    cipher, nonce = _passphrase_cipher(passphrase, scrypt, salt)
    try:
        return MasterKey(cipher.decrypt(nonce, sealed, _wrap_data(scrypt, salt)))
    except InvalidTag:
        raise WrongPassphrase(f"the passphrase does not open the key in {where}") from None


def _check_scrypt(scrypt: tuple[int, int, int], where: str) -> None:
    """Refuse what would take all memory or hours, before any of it is taken."""
    bounded = all(1 <= value <= most for value, most in zip(scrypt, _MAX_SCRYPT, strict=True))
    if not bounded or 128 * scrypt[1] << scrypt[0] > _MAX_SCRYPT_BYTES:
        raise IndexDamaged(f"the key in {where} asks for impossible scrypt parameters: no key of ours does")


def _passphrase_cipher(passphrase: str, scrypt: tuple[int, int, int], salt: bytes) -> tuple[AESGCM, bytes]:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    # surrogatepass never fails: an encoding error would carry the passphrase into a traceback.
    words = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogatepass")
    log_n, r, p = scrypt
    derived = Scrypt(salt, 44, 1 << log_n, r, p).derive(words)
    return AESGCM(derived[:32]), derived[32:]


def _wrap_data(scrypt: tuple[int, int, int], salt: bytes) -> bytes:
    return _HEADS[_WRAPPED_NAME].encode() + bytes(scrypt) + salt


def _encode_line(name: str, payload: bytes) -> str:
    text = base64.b32encode(payload + _checksum(name, payload)).decode()
    groups = [text[start : start + _GROUP] for start in range(0, len(text), _GROUP)]
    return f"{_HEADS[name]} {'-'.join(groups)}\n"


def _decode_line(text: str, where: str) -> tuple[str, bytes]:
    if is_paper(text):
        text = from_paper(text, where)
    name, version, *groups = [*text.split(), "", ""]
    name = name.lower()
    if name not in _HEADS or not re.fullmatch("[0-9]{1,9}", version):
        raise _damaged(where)
    if version != _VERSION:
        raise UnknownFormat(f"the key in {where} has format version {version}; this program knows {_VERSION}")
    try:
        data = base64.b32decode("".join(groups).replace("-", "").upper())
    except (binascii.Error, ValueError):
        raise _damaged(where) from None
    payload, checksum = data[:-_CHECKSUM_SIZE], data[-_CHECKSUM_SIZE:]
    if not hmac.compare_digest(checksum, _checksum(name, payload)):
        raise _damaged(where)
    return name, payload


def _checksum(name: str, payload: bytes) -> bytes:
    return hashlib.sha256(_HEADS[name].encode() + payload).digest()[:_CHECKSUM_SIZE]


def _damaged(where: str) -> IndexDamaged:
    return IndexDamaged(f"{where} is not a whole key file: a character is wrong or missing; restore it from your copy")


# -- the key file


def read_key_file(path: Path, passphrase: str | None) -> MasterKey:
    """The key in the file ``path``; errors as ``decode_key`` has them, and these.

    ``ConfigurationError`` when there is no such file, ``PermissionRefused`` when it may not be read,
    or when others may write it (who can change the key can make us seal for them) or read it.
    """
    return decode_key(read_key_text(path), passphrase, str(path))


def read_key_text(path: Path) -> str:
    """The text of the key file ``path``, for ``is_wrapped`` and ``decode_key``."""
    try:
        with open(path, "rb") as file:
            check_private(file.fileno(), path, "key file")
            data = file.read(_MAX_FILE_SIZE + 1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise ConfigurationError(f"there is no key file at {path}") from None
    except PermissionError:
        raise PermissionRefused(f"the key file {path} may not be read: chmod 600 {shlex.quote(str(path))}") from None
    except OSError as error:
        raise LocalIOError(f"cannot read the key file {path}: {error.strerror}") from error
    if len(data) > _MAX_FILE_SIZE:
        raise _damaged(str(path))
    return data.decode("utf-8", "replace")
