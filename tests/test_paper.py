"""A key on paper: what is typed back is the same key, or the wrong line is named."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from anthill_sync.errors import AnthillError, IndexDamaged, UnknownFormat
from anthill_sync.keys import MasterKey, decode_key, encode_key, encode_wrapped_key, is_wrapped, key_line
from anthill_sync.paper import to_paper

VECTORS: dict[str, Any] = json.loads((Path(__file__).resolve().parent / "vectors.json").read_text("utf-8"))
KEY = MasterKey(bytes.fromhex(VECTORS["secret"]))
PLAIN, WRAPPED = encode_key(KEY), VECTORS["wrapped_key_text"] + "\n"
PAPER = to_paper(PLAIN, ("of the store in /home/ann/store", "keep it dry"))


def test_the_paper_is_that_of_the_formats_page() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "formats.rst").read_text("utf-8")
    shown = "".join(f"   {line}\n" for line in to_paper(PLAIN).splitlines())
    assert shown in page


@pytest.mark.parametrize(("line", "count"), [(PLAIN, 4), (WRAPPED, 8)], ids=["plain", "wrapped"])
def test_a_paper_typed_back_is_the_same_key(line: str, count: int) -> None:
    paper = to_paper(line, ("a remark",))
    assert key_line(paper, "the paper") == line
    assert len(re.findall(r"^\d+  ", paper, re.MULTILINE)) == count
    assert max(map(len, paper.splitlines())) < 40
    assert is_wrapped(paper) == is_wrapped(line)
    assert decode_key(paper, VECTORS["passphrase"], "the paper") == KEY


def typed() -> list[str]:
    lines = PAPER.splitlines()
    return [
        PAPER.upper(),
        PAPER.lower().replace("anthill-key 1", "Anthill-Key  1"),
        "\n".join(line for line in lines if not line.startswith("#")),
        "\r\n\r\n".join(f"  {line}\t" for line in lines),
        "\n".join(line.replace("-", " ") if line[0].isdigit() else line for line in lines),
        "\n".join(line.replace("O", "0").replace("B", "8") if line[0].isdigit() else line for line in lines),
    ]


@pytest.mark.parametrize("text", typed())
def test_case_spaces_remarks_and_look_alike_digits_do_not_matter(text: str) -> None:
    assert decode_key(text, None, "the paper") == KEY


def test_a_wrong_character_is_found_in_its_line() -> None:
    """16 bits a line find all but one in 65,536; the key's own checksum finds the rest."""
    lines = PAPER.splitlines()
    named = 0
    for row, line in enumerate(lines):
        if not line[0].isdigit():
            continue
        number, groups, _ = line.split()
        for place in range(len(groups)):
            if groups[place] == "-":
                continue
            wrong = groups[:place] + ("A" if groups[place] != "A" else "C") + groups[place + 1 :]
            text = "\n".join([*lines[:row], line.replace(groups, wrong), *lines[row + 1 :]])
            with pytest.raises(IndexDamaged) as caught:
                decode_key(text, None, "/some/paper")
            named += f"/some/paper: line {number} does not fit" in str(caught.value)
    assert named >= 63  # of 64


@pytest.mark.parametrize("row", range(4))
def test_a_missing_or_swapped_line_is_found(row: int) -> None:
    head, rows = PAPER.splitlines()[:2], [line for line in PAPER.splitlines() if line[0].isdigit()]
    for changed in ([*rows[:row], *rows[row + 1 :]], [*rows[:row], *rows[row:][::-1]] if row < 3 else rows[:3]):
        with pytest.raises(IndexDamaged, match="line"):
            decode_key("\n".join([*head, *changed]), None, "the paper")


def test_another_version_is_its_own_error() -> None:
    with pytest.raises(UnknownFormat):
        decode_key(PAPER.replace("paper 1", "paper 2"), None, "the paper")


def test_no_error_quotes_what_was_typed() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(300):
        place = chance.randrange(len(PAPER))
        text = PAPER[:place] + chance.choice(["", "\n", " ", "A", "zz", "-", "#"]) + PAPER[place + chance.randrange(3) :]
        said = ""
        try:
            assert decode_key(text, None, "the paper") == KEY
        except AnthillError as error:
            said = str(error).lower()
        assert not [part for part in re.findall(r"[A-Z2-7]{4}", PLAIN) if part.lower() in said]


def test_a_passphrase_stays_around_the_key_on_paper() -> None:
    wrapped = encode_wrapped_key(KEY, "ants")
    assert decode_key(to_paper(wrapped), "ants", "the paper") == KEY
