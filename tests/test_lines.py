"""Journal and snapshot lines: what was written comes back, and nothing else is taken for it."""

from __future__ import annotations

import json
import random
from array import array
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from anthill_sync.errors import IndexDamaged, UnknownFormat
from anthill_sync.index import _APPLY, ImpossibleRecord, MasterIndex
from anthill_sync.lines import (
    PADS_PER_LINE,
    batch_line,
    dumps,
    encode_records,
    first_line,
    hinted_values,
    load_snapshot,
    scan,
    snapshot_lines,
)
from anthill_sync.packing import encode
from anthill_sync.values import BLOCK, BlockList, Pending, Value, split_ids

VECTORS: dict[str, Any] = json.loads((Path(__file__).resolve().parent / "vectors.json").read_text("utf-8"))

# -- snapshots


def snapshot(index: MasterIndex) -> bytes:
    return b"".join(snapshot_lines(index))


def random_index(chance: random.Random, pads: int = 40) -> MasterIndex:
    """An index with some of everything."""
    index = MasterIndex()
    index.sequence, index.run, index.run_id = chance.randrange(1 << 40), chance.randrange(1 << 30), chance.randbytes(16)
    index.put_pads(
        0,
        bytes(chance.randrange(4) for _ in range(pads)),
        bytes(chance.randrange(2) for _ in range(pads)),
        b"".join(chance.randrange(1 << 64).to_bytes(8, "little") for _ in range(pads)),
        chance.randbytes(16 * pads),
    )
    index.writing = set(chance.sample(range(pads), 5))
    index.to_rewrite = set(chance.sample(range(pads), 5))
    for key in ("a", "b/c", "träger \u2028", '"\\'):
        packed, ids = packed_blocks(chance, chance.randrange(4))
        attributes = chance.choice([None, {"mode": 420, "text": 'a"\n\u2028'}])
        index.values[key] = Value(chance.randrange(1 << 50), chance.randrange(1 << 60), 7, attributes, 3, ids, packed)
        index.add_stale(key, chance.randrange(pads), chance.randrange(1 << 60))
    index.put_pending("a", random_pending(chance, None, None))
    index.put_pending("new", random_pending(chance, {"path": "/tmp/träger"}, (3, 9, 80)))
    return index


def packed_blocks(chance: random.Random, count: int) -> tuple[bytes, bytes]:
    ids = chance.randbytes(16 * count)
    return b"".join(BLOCK.pack(n, 32, 100 + n, n, chance.randbytes(16)) for n in range(count)), ids


def random_pending(chance: random.Random, source: Any, manifest: Any) -> Pending:
    packed, ids = packed_blocks(chance, 3)
    hole = packed[:32] + bytes(32) + packed[64:]
    attempts = [*split_ids(ids), chance.randbytes(16)]
    return Pending(attempts, None if source is None else 4, source, 77, None, BlockList(hole, split_ids(ids)), manifest)


def same(one: MasterIndex, other: MasterIndex) -> None:
    """Field by field, what rules out a snapshot that forgets one."""
    names = ["sequence", "run", "run_id", "values", "status", "counters", "digests", "blank", "writing", "to_rewrite", "stale"]
    assert [name for name in names if getattr(one, name) != getattr(other, name)] == []
    assert (one._by_data, one._stale_by_pad) == (other._by_data, other._stale_by_pad)
    assert list(one.pending_uploads) == list(other.pending_uploads)
    for mine, its in zip(one.pending_uploads.values(), other.pending_uploads.values(), strict=True):
        assert pending_fields(mine) == pending_fields(its)


def pending_fields(pending: Pending) -> list[object]:
    head = [pending.data_ids, pending.total, pending.source, pending.started, pending.attributes, pending.manifest]
    return [*head, list(pending.blocks.blocks()), len(pending.blocks)]


@settings(max_examples=40, deadline=None, print_blob=True)
@given(seed=st.integers(0, 1 << 32))
def test_a_snapshot_comes_back_whole(seed: int) -> None:
    index = random_index(random.Random(seed))
    loaded = load_snapshot(snapshot(index), "index.json")
    same(index, loaded)
    assert snapshot(loaded) == snapshot(index)


@pytest.mark.parametrize("pads", [0, 1, PADS_PER_LINE - 1, PADS_PER_LINE, PADS_PER_LINE + 1, 2 * PADS_PER_LINE + 7])
def test_any_number_of_pads_comes_back(pads: int) -> None:
    index = MasterIndex()
    if pads:
        index.apply(["reserving", 0, pads - 1])
        index.apply(["reserved", pads - 1])
        index.apply(["committed", pads - 1, 1 << 63, encode(b"d" * 16), [], [], None, 1])
    loaded = load_snapshot(snapshot(index), "index.json")
    same(index, loaded)
    assert loaded.counters == array("Q", [*[0] * (pads - 1), 1 << 63][:pads])


def test_every_flipped_or_cut_byte_of_a_snapshot_is_reported() -> None:
    data = snapshot(random_index(random.Random(1), pads=6))
    for at in range(len(data)):
        for mask in (0x01, 0x20, 0x80):
            changed = data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
            with pytest.raises(IndexDamaged):
                load_snapshot(changed, "index.json")
        with pytest.raises(IndexDamaged):
            load_snapshot(data[:at], "index.json")


def test_swapped_doubled_or_missing_lines_of_a_snapshot_are_reported() -> None:
    lines = snapshot(random_index(random.Random(2), pads=6)).splitlines(keepends=True)
    for at in range(len(lines) - 1):
        head, one, two, tail = lines[:at], lines[at], lines[at + 1], lines[at + 2 :]
        for changed in ([*head, two, one, *tail], [*head, one, one, two, *tail], [*head, two, *tail]):
            with pytest.raises(IndexDamaged):
                load_snapshot(b"".join(changed), "index.json")


def closed(*lines: dict[str, Any]) -> bytes:
    """A snapshot of these lines with the right closing line."""
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return data + json.dumps({"lines": len(lines), "sum": blake3(data).hexdigest()}).encode() + b"\n"


def test_what_only_looks_like_a_snapshot_is_reported_however_deep_it_is_nested() -> None:
    for data in (b"[" * 10**5, b'{"key":' * 10**5, b"{}\n" + b"[" * 10**5 + b"\n"):
        with pytest.raises(IndexDamaged, match="damaged"):
            load_snapshot(data, "snapshot")
        assert hinted_values(data) == {}


def test_a_snapshot_of_another_format_is_an_error_of_its_own() -> None:
    header = {"format": 2, "sequence": 0, "run": [0, "00" * 16], "writing": [], "to_rewrite": []}
    with pytest.raises(UnknownFormat, match="format 2"):
        load_snapshot(closed(header), "index.json")
    assert load_snapshot(closed({**header, "format": 1}), "index.json").sequence == 0


def test_a_snapshot_whose_pads_do_not_follow_each_other_is_damaged() -> None:
    header = {"format": 1, "sequence": 0, "run": [0, "00" * 16], "writing": [], "to_rewrite": []}
    pads = {"pads": 1, "packed": [encode(b"\0"), encode(b"\0"), encode(bytes(8)), encode(bytes(16))]}
    with pytest.raises(IndexDamaged, match="do not follow"):
        load_snapshot(closed(header, pads), "index.json")
    with pytest.raises(ImpossibleRecord):
        MasterIndex().put_pads(0, b"\0", b"\0", bytes(16), bytes(16))


def test_an_error_names_the_file() -> None:
    with pytest.raises(IndexDamaged, match=r"/some/index\.json"):
        load_snapshot(b"", "/some/index.json")


# -- journal lines


def journal(*batches: list[Any]) -> bytes:
    """A journal of these batches, each synced before the next is written."""
    data, previous = first_line(0)
    for sequence, records in enumerate(batches, 1):
        line, previous = batch_line(sequence, previous, len(data) if sequence > 1 else 0, [encode_records(records)])
        data += line
    return data


def test_a_journal_comes_back_line_by_line() -> None:
    batches: list[list[Any]] = [[["run", 1, "ab"], ["idle", []]], [["remove", ["träger \u2028\n"], []]], []]
    tail = scan(journal(*batches), "index.journal")
    assert tail.batches == list(enumerate(batches, 1))
    assert (tail.end, tail.torn, tail.base) == (len(journal(*batches)), 0, 0)


def test_reading_on_from_any_line_gives_the_same_batches() -> None:
    data = journal([["a"]], [["b"]], [["c"]])
    ends = [at + 1 for at, byte in enumerate(data) if byte == 10]
    for end in ends:
        first = scan(data[:end], "index.journal")
        rest = scan(data[end:], "index.journal", start=first.end, previous=first.last_sum)
        assert first.batches + rest.batches == [(1, [["a"]]), (2, [["b"]]), (3, [["c"]])]
        assert rest.end == len(data)
        assert rest.last_sum == scan(data, "index.journal").last_sum


def test_a_line_that_does_not_follow_the_one_before_ends_the_journal() -> None:
    line, _ = batch_line(1, "0" * 16, 0, [b'["a"]'])
    tail = scan(first_line(0)[0] + line, "index.journal")
    assert (tail.batches, tail.torn) == ([], len(line))


def test_damage_below_a_synced_offset_is_told_from_a_torn_tail() -> None:
    data = journal([["a"]], [["b"]], [["c"]])
    start = [at + 1 for at, byte in enumerate(data) if byte == 10]
    tail = scan(data[: start[2] + 5] + b"x" + data[start[2] + 6 :], "index.journal")
    assert (len(tail.batches), tail.torn) == (2, len(data) - start[2])
    with pytest.raises(IndexDamaged, match=f"damaged at byte {start[1]}, below byte {start[2]}"):
        scan(data[: start[1] + 5] + b"x" + data[start[1] + 6 :], "index.journal")


def test_a_journal_without_its_first_line_is_damaged() -> None:
    for data in (b"", b"\n", b'{"format":1}\n', journal([["a"]])[5:], first_line(0)[0][:-1]):
        with pytest.raises(IndexDamaged, match="first line"):
            scan(data, "index.journal")


def test_a_journal_of_another_format_is_an_error_of_its_own() -> None:
    body = b'{"format":2,"base":0'
    with pytest.raises(UnknownFormat, match="format 2"):
        scan(body + b',"c":"' + blake3(body).hexdigest(8).encode() + b'"}\n', "index.journal")


# -- the documented bytes


def test_journal_lines_are_those_of_the_vectors() -> None:
    vector, records = VECTORS["journal"], recorded("journal")
    first, own = first_line(vector["base"])
    line, _ = batch_line(vector["sequence"], own, vector["synced"], [encode_records(records)])
    assert [first.decode(), line.decode()] == [each + "\n" for each in vector["lines"].values()]
    tail = scan(first + line, "index.journal")
    assert (tail.base, tail.batches) == (vector["base"], [(vector["sequence"], records)])


def test_a_line_sum_follows_the_documented_steps() -> None:
    previous = ""
    for line in VECTORS["journal"]["lines"].values():
        fields = json.loads(line)
        body = line[: -len(',"c":"0123456789abcdef"}')]
        assert fields["c"] == blake3(body.encode()).hexdigest()[:16]
        assert fields.get("p", "") == previous
        previous = fields["c"]


def test_the_snapshot_is_that_of_the_vectors() -> None:
    vector = VECTORS["snapshot"]
    index = MasterIndex()
    for record in recorded("snapshot"):
        index.apply(record)
    index.sequence = vector["sequence"]
    lines = [line + "\n" for line in vector["lines"].values()]
    assert snapshot(index).decode() == "".join(lines)
    same(index, load_snapshot("".join(lines).encode(), "index.json"))
    assert json.loads(lines[-1])["sum"] == blake3("".join(lines[:-1]).encode()).hexdigest()


def recorded(name: str) -> list[Any]:
    return [json.loads(record) for record in VECTORS[name]["records"].values()]


def test_the_formats_page_describes_every_record() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "formats.rst").read_text("utf-8")
    assert [name for name in _APPLY if f'``["{name}", ' not in page] == []


@pytest.mark.parametrize("attributes", [None, {}, {"mode": 420, "text": 'a"\n\u2028', "deep": [1.5, None, True]}])
@pytest.mark.parametrize("key", ["a/b", "träger \u2028", '"\\', "\x7f\U0001f600"])
def test_a_value_s_line_is_the_json_of_its_fields(key: str, attributes: Any) -> None:
    index, chance = MasterIndex(), random.Random(1)
    packed, ids = packed_blocks(chance, 3)
    index.values[key] = Value(5, 1 << 60, -7, attributes, 3, ids, packed)
    fields = [5, 1 << 60, -7, attributes, 3, encode(ids), encode(packed)]
    assert list(snapshot_lines(index))[1] == dumps({"key": key, "v": fields}) + b"\n"
