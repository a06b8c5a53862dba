"""The master key, what derives from it, and its file."""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import json
import os
import pickle
import re
import subprocess
import threading
import traceback
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from anthill_sync import keys
from anthill_sync.errors import (
    AnthillError,
    ConfigurationError,
    IndexDamaged,
    InvalidArgument,
    PermissionRefused,
    UnknownFormat,
    WrongPassphrase,
)
from anthill_sync.keys import MasterKey, decode_key, encode_key, encode_wrapped_key, is_wrapped, read_key_file

HERE = Path(__file__).resolve().parent
VECTORS: dict[str, Any] = json.loads((HERE / "vectors.json").read_text("utf-8"))
KEY = MasterKey(bytes.fromhex(VECTORS["secret"]))
PLAIN: str = VECTORS["key_text"]
WRAPPED: str = VECTORS["wrapped_key_text"]
PASSPHRASE: str = VECTORS["passphrase"]


def encoded(head: str, payload: bytes) -> str:
    """A key file's line made by the documented steps alone."""
    checksum = hashlib.sha256(head.encode() + payload).digest()[:8]
    return f"{head} {base64.b32encode(payload + checksum).decode()}"


# -- derivation


@pytest.mark.parametrize("label", VECTORS["derived"])
def test_derived_keys_follow_the_documented_steps(label: str) -> None:
    extracted = hmac.digest(b"anthill-key 1", bytes.fromhex(VECTORS["secret"]), "sha256")
    expected = bytes.fromhex(VECTORS["derived"][label])
    assert hmac.digest(extracted, label.encode() + b"\x01", "sha256")[: len(expected)] == expected


def test_derived_keys_are_those_of_the_vectors() -> None:
    slot, number = VECTORS["slot"], VECTORS["number"]
    derived = {
        f"pad/{slot}/{number}": KEY.pad_seed(slot, number),
        f"store/{slot}": KEY.store_id(slot),
        "data": KEY.data_key(),
        "table": KEY.table_key(),
        "hedge": KEY.hedge_key(),
        "fingerprint": KEY.fingerprint_key(),
    }
    assert {label: value.hex() for label, value in derived.items()} == VECTORS["derived"]
    assert KEY.pad(slot, number).address == VECTORS["address"]


def test_formats_page_quotes_every_vector() -> None:
    page = "".join((HERE.parent / "docs" / "formats.rst").read_text("utf-8").split())

    def texts(value: Any) -> list[str]:
        return [text for child in value.values() for text in texts(child)] if isinstance(value, dict) else [str(value)]

    quoted = texts(VECTORS)
    assert len(quoted) > 20
    assert [text for text in quoted if "".join(text.split()) not in page] == []


def test_every_pad_and_slot_has_its_own_secrets() -> None:
    pads = [(slot, number) for slot in range(12) for number in range(12)]
    assert len({KEY.pad_seed(*pad) for pad in pads}) == len(pads)
    assert len({KEY.store_id(slot) for slot in range(12)}) == 12
    assert MasterKey.generate() != MasterKey.generate()


def test_pad_address_is_the_public_key_that_checks_its_signatures() -> None:
    pad, other = KEY.pad(0, 5), KEY.pad(0, 6)
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(pad.address))
    public.verify(pad.sign(b"message"), b"message")
    for signature, message in ((pad.sign(b"message"), b"another"), (other.sign(b"message"), b"message")):
        with pytest.raises(InvalidSignature):
            public.verify(signature, message)


def test_addresses_are_right_from_many_threads_and_the_memory_for_them_is_bounded() -> None:
    key, gate, count = MasterKey.generate(), threading.Barrier(8), keys.ADDRESS_CACHE + 50

    def addresses() -> list[str]:
        gate.wait(30)
        return [key.pad(1, number).address for number in range(count)]

    with ThreadPoolExecutor(8) as pool:
        found = [future.result() for future in [pool.submit(addresses) for _ in range(8)]]
    for number in (0, 1, count - 1):
        private = Ed25519PrivateKey.from_private_bytes(key.pad_seed(1, number))
        expected = private.public_key().public_bytes_raw().hex()
        assert {answers[number] for answers in found} == {expected}
    assert key._address.cache_info().currsize == keys.ADDRESS_CACHE  # type: ignore[attr-defined]


# -- secrets stay where they are


def secret_forms(key: MasterKey) -> list[str]:
    return [key.secret.hex(), repr(key.secret)[2:-1], base64.b32encode(key.secret).decode()[:12], encode_key(key).split()[2][:14]]


def test_repr_shows_no_secret() -> None:
    key = MasterKey.generate()
    shown = f"{key!r} {key} {key.pad(0, 1)!r}"
    assert "MasterKey" in shown
    assert not [form for form in secret_forms(key) if form in shown]


@pytest.mark.parametrize("act", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("thing", [KEY, KEY.pad(0, 1)], ids=["key", "pad"])
def test_secrets_do_not_pickle(thing: object, act: Any) -> None:
    if act is copy.copy and thing is not KEY:
        assert act(thing) == thing  # a shallow copy of a pad shares its master key
    else:
        with pytest.raises(TypeError, match="does not pickle"):
            act(thing)


def test_errors_show_neither_key_nor_passphrase() -> None:
    shown = ""
    damaged = PLAIN[:-1] + "A"
    for text, passphrase in ((damaged, PASSPHRASE), (WRAPPED, None), (WRAPPED, "not it, really"), (PLAIN[:-9], None)):
        try:
            decode_key(text, passphrase, "the file")
        except AnthillError:
            shown += traceback.format_exc()
    assert shown.count("the file") >= 4
    assert not [form for form in [*secret_forms(KEY), "AAAQ", PASSPHRASE, "not it, really"] if form in shown]


# -- the file's text


def test_key_text_is_that_of_the_vectors_and_reads_back() -> None:
    assert encode_key(KEY) == PLAIN + "\n"
    assert decode_key(PLAIN, None, "key") == KEY
    assert encoded("anthill-key 1", KEY.secret).split() == [*PLAIN.split()[:2], PLAIN.split()[2].replace("-", "")]
    assert not is_wrapped(PLAIN)


def test_wrapped_key_text_is_that_of_the_vectors_and_reads_back() -> None:
    salt = bytes.fromhex(VECTORS["wrap_salt"])
    assert encode_wrapped_key(KEY, PASSPHRASE, lambda size: salt[:size]) == WRAPPED + "\n"
    assert decode_key(WRAPPED, PASSPHRASE, "key") == KEY
    assert is_wrapped(WRAPPED)
    assert is_wrapped("\n  " + WRAPPED.upper())


def test_wrapped_key_follows_the_documented_steps() -> None:
    salt = bytes.fromhex(VECTORS["wrap_salt"])
    words = unicodedata.normalize("NFC", PASSPHRASE).encode()
    derived = hashlib.scrypt(words, salt=salt, n=1 << 17, r=8, p=1, maxmem=1 << 28, dklen=44)
    parameters = bytes([17, 8, 1])
    sealed = AESGCM(derived[:32]).encrypt(derived[32:], KEY.secret, b"anthill-key-wrapped 1" + parameters + salt)
    by_the_book = encoded("anthill-key-wrapped 1", parameters + salt + sealed)
    assert by_the_book.split() == [*WRAPPED.split()[:2], WRAPPED.split()[2].replace("-", "")]


@pytest.mark.parametrize(
    "text",
    [
        PLAIN + "\n",
        f"\r\n\t {PLAIN} \n\n",
        PLAIN.lower(),
        PLAIN.upper(),
        "anthill-key 1 " + PLAIN.split()[2].replace("-", ""),
        "anthill-key 1 " + PLAIN.split()[2].replace("-", " "),
        "anthill-key 1 " + PLAIN.split()[2].replace("-", "-\n"),
    ],
)
def test_key_text_may_be_typed_in_any_grouping_and_case(text: str) -> None:
    assert decode_key(text, "ignored", "key") == KEY


@pytest.mark.parametrize("text", [PLAIN, WRAPPED], ids=["plain", "wrapped"])
def test_any_wrong_character_is_damage_that_names_the_file(text: str) -> None:
    start = text.rindex(" ") + 1
    for place in range(start, len(text)):
        if text[place] != "-":
            wrong = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
            with pytest.raises(IndexDamaged, match="/some/key"):
                decode_key(wrong, PASSPHRASE, "/some/key")


@pytest.mark.parametrize("text", [PLAIN, WRAPPED], ids=["plain", "wrapped"])
def test_a_truncated_key_is_damage_that_names_the_file(text: str) -> None:
    for length in range(len(text)):
        with pytest.raises(IndexDamaged, match="/some/key"):
            decode_key(text[:length], PASSPHRASE, "/some/key")


@pytest.mark.parametrize("text", [PLAIN + "-AAAA", PLAIN + " x", PLAIN[:-4] + "é234", "anthill-key one AAAA", "PK\x03\x04"])
def test_anything_else_is_damage(text: str) -> None:
    with pytest.raises(IndexDamaged):
        decode_key(text, None, "key")


def test_a_whole_line_around_the_wrong_number_of_bytes_is_damage() -> None:
    for head, size in (("anthill-key 1", 27), ("anthill-key 1", 37), ("anthill-key-wrapped 1", 62)):
        with pytest.raises(IndexDamaged):
            decode_key(encoded(head, bytes(size)), PASSPHRASE, "key")


@pytest.mark.parametrize("name", ["anthill-key", "anthill-key-wrapped"])
def test_unknown_version_is_its_own_error(name: str) -> None:
    with pytest.raises(UnknownFormat, match="/some/key has format version 2"):
        decode_key(f"{name} 2 anything at all", None, "/some/key")


def test_wrapped_key_without_passphrase_says_how_to_give_one() -> None:
    with pytest.raises(ConfigurationError, match=r"--passphrase-file.*ANTHILL_PASSPHRASE_FILE") as caught:
        decode_key(WRAPPED, None, "key")
    assert caught.value.exit_code == 78


@pytest.mark.parametrize("passphrase", ["", PASSPHRASE + " ", PASSPHRASE.upper()])
def test_wrong_passphrase_is_its_own_error(passphrase: str) -> None:
    with pytest.raises(WrongPassphrase, match="/some/key") as caught:
        decode_key(WRAPPED, passphrase, "/some/key")
    assert caught.value.exit_code == 77


def test_passphrase_is_the_same_however_its_accents_were_typed() -> None:
    other = unicodedata.normalize("NFD", PASSPHRASE)
    assert other != PASSPHRASE
    assert decode_key(WRAPPED, other, "key") == KEY


def test_passphrase_that_is_no_text_still_opens_what_it_sealed() -> None:
    assert decode_key(encode_wrapped_key(KEY, "a\udcff\ud800"), "a\udcff\ud800", "key") == KEY


def test_empty_passphrase_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        encode_wrapped_key(KEY, "")


def test_two_wrappings_share_no_salt() -> None:
    assert encode_wrapped_key(KEY, "same")[:50] != encode_wrapped_key(KEY, "same")[:50]


@pytest.mark.parametrize(
    "scrypt", [(63, 8, 1), (21, 1, 1), (20, 16, 1), (17, 255, 1), (17, 8, 255), (0, 8, 1), (17, 0, 1), (17, 8, 0)]
)
def test_absurd_scrypt_parameters_are_refused_before_memory_is_taken(scrypt: tuple[int, int, int]) -> None:
    with pytest.raises(IndexDamaged, match="scrypt"):
        decode_key(encoded("anthill-key-wrapped 1", bytes(scrypt) + bytes(64)), PASSPHRASE, "key")


# -- the file


def key_file(folder: Path, text: str = PLAIN, mode: int = 0o600) -> Path:
    path = folder / "a key's file"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_key_file_is_read(tmp_path: Path, mode: int) -> None:
    assert read_key_file(key_file(tmp_path, mode=mode), None) == KEY


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_key_file_others_can_write_is_refused_and_the_named_chmod_mends_it(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, mode=mode)
    with pytest.raises(PermissionRefused) as caught:
        read_key_file(path, None)
    command = re.search(r"chmod .*", str(caught.value))
    assert command is not None
    subprocess.run(["sh", "-c", command[0]], check=True)
    assert read_key_file(path, None) == KEY


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_key_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PermissionRefused, match="chmod 600"):
        read_key_file(key_file(tmp_path, mode=0o000), None)


def test_missing_key_file_is_a_configuration_error_that_names_it(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, key_file(tmp_path) / "below"):
        with pytest.raises(ConfigurationError, match=re.escape(str(path))):
            read_key_file(path, None)


def test_no_flipped_bit_of_the_file_gives_another_key(tmp_path: Path) -> None:
    path = key_file(tmp_path)
    whole = path.read_bytes()
    refused = 0
    for bit in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            assert read_key_file(path, None) == KEY  # a letter's case, a hyphen that became a space
        except AnthillError:
            refused += 1
    assert refused > len(whole) * 6


def test_a_file_too_large_for_a_key_is_damage(tmp_path: Path) -> None:
    with pytest.raises(IndexDamaged):
        read_key_file(key_file(tmp_path, PLAIN + " " * 5000), None)
