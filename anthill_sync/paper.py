"""A key as text for paper: short numbered lines, each with a check word that finds a typing error in it. Pure.

Read back, it is the key file's one line again; ``docs/formats.rst`` describes every character.
"""

from __future__ import annotations

import hashlib
import re

from .errors import IndexDamaged, UnknownFormat

PAPER_NAME = "anthill-key-paper"
_VERSION = "1"
_GROUPS_PER_LINE = 4
_CONSONANTS, _VOWELS = "bdfghjklmnprstvz", "aiou"
_LINE = re.compile(r"(\d{1,3})\s+([a-z0-9](?:[a-z0-9 \t-]*[a-z0-9])?)\s+([a-z]+)")
_MISTAKEN = str.maketrans("018", "oib")  # digits that base32 leaves out, and the letters that were meant


def to_paper(line: str, remarks: tuple[str, ...] = ()) -> str:
    """The key file's ``line`` for paper, with ``remarks`` that are ignored when it is read back."""
    name, version, groups = line.split()
    head = f"{name} {version}"
    parts = groups.split("-")
    rows = ["-".join(parts[i : i + _GROUPS_PER_LINE]) for i in range(0, len(parts), _GROUPS_PER_LINE)]
    lines = [f"{PAPER_NAME} {_VERSION}", head, *(f"# {remark}" for remark in remarks)]
    lines += [f"{number}  {row}  {_check_word(head, len(rows), number, row)}" for number, row in enumerate(rows, 1)]
    return "\n".join(lines) + "\n"


def is_paper(text: str) -> bool:
    """True when ``text`` begins like one for paper."""
    return text.lower().split()[:1] == [PAPER_NAME]


def from_paper(text: str, where: str) -> str:
    """The key file's line from a text for paper; ``where`` names it in errors.

    Case and white space do not matter, nor do lines that begin with ``#``. ``IndexDamaged`` names the line that does
    not fit its check word, or is missing; ``UnknownFormat`` for another version.
    """
    lines = [line.strip().lower() for line in text.splitlines()]
    head, name, *rows = [*(" ".join(line.split()) for line in lines if line and not line.startswith("#")), "", ""]
    if head != f"{PAPER_NAME} {_VERSION}":
        raise UnknownFormat(f"{where} does not begin with the line {PAPER_NAME} {_VERSION}, the only version this program knows")
    groups = [_checked(name, rows[:-2], number, where) for number in range(1, len(rows) - 1)]
    return f"{name} {'-'.join(groups)}\n"


def _checked(head: str, rows: list[str], number: int, where: str) -> str:
    """The groups of the line with this number, which has to be in its place."""
    match = _LINE.fullmatch(rows[number - 1])
    if match is None or int(match[1]) != number:
        raise IndexDamaged(f"{where}: line {number} is missing, or is not NUMBER GROUPS WORD")
    row = match[2].replace(" ", "-").translate(_MISTAKEN)
    if match[3] != _check_word(head, len(rows), number, row):
        raise IndexDamaged(
            f"{where}: line {number} does not fit its check word: a character of it, or of the line without a number, "
            "is wrong, or the last lines are missing"
        )
    return row


def _check_word(head: str, count: int, number: int, row: str) -> str:
    """16 bits of a hash, as a word that can be spoken: the line's own groups, its place, and how many lines there are."""
    text = f"{PAPER_NAME} {_VERSION}|{head}|{count}|{number}|{row.replace('-', '').upper()}"
    bits = int.from_bytes(hashlib.sha256(text.encode()).digest()[:2], "big")
    first, vowel, middle, other, last = bits >> 12, bits >> 10 & 3, bits >> 6 & 15, bits >> 4 & 3, bits & 15
    return _CONSONANTS[first] + _VOWELS[vowel] + _CONSONANTS[middle] + _VOWELS[other] + _CONSONANTS[last]
