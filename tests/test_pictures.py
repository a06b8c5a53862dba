"""The memory map drawn: every byte of every pad has its place, and nothing in use looks free."""

from __future__ import annotations

import os
import random
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from anthill_sync import Store
from anthill_sync.pictures import cells, svg_picture, terminal_picture
from anthill_sync.render import in_columns, shown_width
from anthill_sync.reports import ByteSummary, ExtentRange, PadSummary, Usage, Use

from .cli_tools import LAUNCHER, PROGRAM, Gate, Shell, Terminal, environment, make_shell, spawn
from .store_tools import wait_until

PAD = 16384
SVG = "{http://www.w3.org/2000/svg}"


def usage(*ranges: tuple[Use, int], pads: int = 1) -> Usage:
    each = tuple(ExtentRange(*one) for one in ranges)
    return Usage(PadSummary(pads, 0, 0, 0), ByteSummary(0, 0, 0, 0), 0, "dir:x", 0, {}, ranges=each)


# -- what the bytes are used for


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "home", pad_size=PAD, settings={"rewrite_limit": 4096}) as store:
        yield store


def total(state: Usage, use: Use) -> int:
    return sum(each.length for each in state.ranges if each.use == use)


def test_every_byte_of_every_pad_is_drawn_once(store: Store) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for step in range(40):
        key = f"k{chance.randrange(12)}"
        if key in store and chance.random() < 0.4:
            del store[key]
        else:
            store[key] = chance.randbytes(chance.choice([0, 10, 2000, 7000, 15000, 40_000]))
        if step % 5 == 0:
            state = store.usage()
            assert sum(each.length for each in state.ranges) == state.pads.total * PAD
            assert all(a.use != b.use for a, b in pairwise(state.ranges))
            assert total(state, Use.PENDING) == 0
            assert total(state, Use.LIVE) >= state.bytes.live
            assert total(state, Use.GAP) == state.bytes.gaps
            assert (total(state, Use.FREE) > 0) == (state.bytes.free > 0)


def test_free_pads_are_free_and_full_ones_live(store: Store) -> None:
    store.reserve(3)
    assert store.usage().ranges == ((Use.FREE, 3 * PAD),)
    store["k"] = os.urandom(2 * (PAD - 1024))
    assert store.usage().ranges[0] == (Use.LIVE, 2 * PAD + 32)


def test_an_interrupted_put_is_pending(tmp_path: Path) -> None:
    shell = make_shell(tmp_path / "home")
    (tmp_path / "source").write_bytes(os.urandom(5 * (PAD - 1024)))
    gate = Gate(tmp_path / "gate", free=3)
    with spawn("--home", shell.home, "put", "k", tmp_path / "source", program=LAUNCHER, env=gate.env, stderr=-3) as process:
        gate.wait()
        with Store.open(shell.home, read_only=True) as store:  # those before the gate are sent, and perhaps not recorded yet
            wait_until(lambda: total(store.usage(), Use.PENDING) == 3 * PAD, lambda: str(store.usage()))
        process.kill()
    with Store.open(shell.home, read_only=True) as store:
        assert total(store.usage(), Use.PENDING) == 3 * PAD
        assert total(store.usage(), Use.LIVE) == 0
        assert "▚" in terminal_picture(store.usage(), 40)


# -- cells


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10, 100])
def test_cells_are_equal_parts_and_forget_nothing(count: int) -> None:
    sizes = [(Use.LIVE, 3), (Use.FREE, 90), (Use.PENDING, 1), (Use.GAP, 5), (Use.LIVE, 1)]
    ranges = [ExtentRange(use, length) for use, length in sizes]
    bytewise = [each.use for each in ranges for _ in range(each.length)]
    ends = [number * 100 // count for number in range(count + 1)]
    expected = [frozenset(bytewise[a:b]) for a, b in pairwise(ends)]
    assert list(cells(ranges, count)) == expected


def test_the_picture_shows_each_use() -> None:
    state = usage((Use.LIVE, 20), (Use.FREE, 10), (Use.GAP, 10), (Use.PENDING, 10), (Use.FREE, 5), (Use.LIVE, 5))
    assert terminal_picture(state, 6).splitlines() == [
        "memory map of 1 pad:",
        "|██·░▚▓|",
        "█ live  ▓ partly live  ▚ pending  ░ gaps  · free",
    ]
    assert terminal_picture(state, 6, unicode=False).splitlines()[1:] == [
        "|##.-o+|",
        "# live  + partly live  o pending  - gaps  . free",
    ]
    assert terminal_picture(usage(pads=0), 80) == ""


def test_nothing_in_use_is_shown_as_free() -> None:
    state = usage((Use.FREE, 10**9), (Use.LIVE, 1), (Use.FREE, 10**9), (Use.PENDING, 1), (Use.FREE, 10**9), pads=9000)
    drawn = "".join(terminal_picture(state, 80).splitlines()[1:-1])
    assert (drawn.count("▓"), drawn.count("▚")) == (1, 1)
    svg = svg_picture(state)
    assert "partly live</title>" in svg
    assert "pending</title>" in svg


def test_the_picture_of_a_large_store_has_at_most_eight_lines() -> None:
    lines = terminal_picture(usage((Use.FREE, 10**9), (Use.LIVE, 10**9), pads=200_000), 80).splitlines()
    assert lines[0] == "memory map of 200,000 pads:"
    assert len(lines) == 10
    assert {len(line) for line in lines[1:-1]} == {82}


# -- SVG


def test_the_svg_is_well_formed_and_covers_every_pad_once() -> None:
    state = usage((Use.LIVE, 5 * PAD), (Use.FREE, 5 * PAD), pads=10)
    root = ElementTree.fromstring(svg_picture(state))
    assert root.tag == f"{SVG}svg"
    drawn = [each for each in root.iter(f"{SVG}rect") if each.find(f"{SVG}title") is not None]
    assert [(r.get("x"), r.get("width"), r.findtext(f"{SVG}title")) for r in drawn] == [("0", "1024", "live")] * 5 + [
        ("0", "1024", "free")
    ] * 5
    assert len({r.get("y") for r in drawn}) == 10


def test_the_svg_of_a_large_store_stays_small() -> None:
    ranges = [(Use(number % 4), 1000) for number in range(200_000)]
    assert len(svg_picture(usage(*ranges, pads=200_000))) < 3_000_000
    ElementTree.fromstring(svg_picture(usage(pads=0)))


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return make_shell(tmp_path / "home")


def test_the_svg_is_written_as_a_whole_and_replaces_a_picture_only(shell: Shell, tmp_path: Path) -> None:
    shell.ok("put", "a-telling-name", "-", stdin=b"1")
    path = tmp_path / "map.svg"
    assert shell.ok("usage", "--svg", path).out == ""
    assert "telling" not in path.read_text()
    shell.ok("put", "b", "-", stdin=os.urandom(100_000))
    before = path.read_text()
    assert shell.ok("usage", "--svg", path, "--json").json["keys"] == 2
    assert path.read_text() != before
    for taken in (tmp_path / "notes.txt", tmp_path / "home"):
        if taken.suffix:
            taken.write_text("precious")
        assert shell("usage", "--svg", taken).code == 73
    assert (tmp_path / "notes.txt").read_text() == "precious"
    assert shell("usage", "--svg", "/dev/null").code == 73
    assert shell("usage", "--svg", tmp_path / "nowhere" / "map.svg").code == 66
    assert sorted(each.name for each in tmp_path.iterdir()) == ["home", "map.svg", "notes.txt"]


# -- ls in columns


def test_columns_fit_the_width_and_lose_nothing() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(200):
        names = ["x" * chance.randrange(1, 30) for _ in range(chance.randrange(0, 40))]
        width = chance.randrange(1, 120)
        lines = in_columns(names, width).splitlines()
        assert sorted(" ".join(lines).split()) == sorted(names)
        assert all(len(line) <= width for line in lines) or len(lines) == len(names)


def test_columns_run_downwards_and_are_as_many_as_fit() -> None:
    assert in_columns(["a", "bb", "c", "dddd", "e"], 11) == "a   c     e\nbb  dddd\n"
    assert in_columns(["a", "bb", "c", "dddd", "e"], 10) == "a   dddd\nbb  e\nc\n"
    assert in_columns(["a", "bb", "c", "dddd", "e"], 80) == "a  bb  c  dddd  e\n"
    assert in_columns(["long name", "b"], 5) == "long name\nb\n"
    assert in_columns([], 80) == ""


def test_wide_characters_take_two_columns_and_accents_none() -> None:
    assert [shown_width(text) for text in ("abc", "日本", "e\u0301", "é", "a\u200d")] == [3, 4, 1, 1, 1]
    assert in_columns(["日本", "b", "cc", "d"], 10) == "日本  cc\nb     d\n"


def test_ls_on_a_terminal_fits_it_and_a_pipe_gets_a_key_per_line(shell: Shell) -> None:
    keys = [f"key-{number:02}" for number in range(20)]
    shell.ok("put", "x", "-", stdin=b"1")
    with Store.open(shell.home) as store:
        store.put_many(dict.fromkeys(keys, b"1"))
    terminal = Terminal([*PROGRAM, "--home", str(shell.home), "ls"], environment(), columns=50)
    assert terminal.end() == 0
    lines = terminal.lines()
    assert len(lines) == 4
    assert lines[0].split() == ["key-00", "key-04", "key-08", "key-12", "key-16", "x"]
    assert shell.ok("ls").out.splitlines() == [*keys, "x"]
