"""Uploads: which chunks are sent, which stay where they are, and how long a manifest may get."""

from __future__ import annotations

import random
from collections.abc import Collection
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthill_sync import Store
from anthill_sync.image import manifest_size
from anthill_sync.operation import Operation
from anthill_sync.packing import decode
from anthill_sync.uploads import Origin, Upload
from anthill_sync.values import BLOCK, NO_FINGERPRINT, Block, BlockList, Pending, Span, Value, spans_of

CHUNK = 1000
NEW = b"new!" * 4
LIMIT = 8192  # bytes: half of a pad of 16 KiB


def name(number: int) -> bytes:
    return number.to_bytes(16, "big")


def value_of(ids: list[bytes], size: int, attributes: dict[str, int] | None = None) -> Value:
    """A value whose chunks were sealed under these data ids; chunk n has the fingerprint n."""
    known = list(dict.fromkeys(ids))
    packed = b"".join(BLOCK.pack(n, 32, 100, known.index(each), name(n + 1)) for n, each in enumerate(ids))
    return Value(size, 1, 7, attributes, 0, b"".join(known), packed)


def upload_of(
    size: int | None, *, old: Value | None = None, pending: Pending | None = None, attributes: dict[str, int] | None = None
) -> Upload:
    return Upload(
        Operation(),
        "k",
        NEW,
        version=9,
        size=size,
        chunk_size=CHUNK,
        attributes=attributes,
        old=old,
        pending=pending,
    )


def carry(upload: Upload, sent: Collection[int]) -> None:
    """Every chunk but these was found unchanged."""
    for chunk in range(len(upload.origins)):
        upload.origins[chunk] = Origin.SENT if chunk in sent else Origin.CARRIED


# -- planning


def test_a_new_value_sends_its_full_chunks_and_leaves_the_remainder_to_the_tail() -> None:
    upload = upload_of(3 * CHUNK + 1)
    upload.plan(len(upload.origins))
    assert (list(upload.sends), list(upload.scans)) == ([0, 1, 2], [])
    assert (upload.unread, upload.remaining) == (4, 4)
    assert [upload.chunk_length(chunk) for chunk in range(4)] == [CHUNK, CHUNK, CHUNK, 1]


@pytest.mark.parametrize(("size", "sends"), [(0, 0), (1, 0), (CHUNK, 1), (CHUNK + 1, 1), (2 * CHUNK, 2)])
def test_sizes_around_a_chunk(size: int, sends: int) -> None:
    upload = upload_of(size)
    upload.plan(len(upload.origins))
    assert len(upload.sends) == sends
    assert upload.spans() == ([Span(NEW, 0, -(-size // CHUNK))] if size else [])


def test_an_update_compares_what_it_knows_and_sends_what_is_longer() -> None:
    upload = upload_of(4 * CHUNK, old=value_of([name(1)] * 2, 2 * CHUNK))
    upload.plan(len(upload.origins))
    assert (list(upload.scans), list(upload.sends)) == ([0, 1], [2, 3])


def test_an_interrupted_attempt_is_looked_at_before_the_published_value() -> None:
    pending = Pending([name(2)], 2, None, 7)
    pending.blocks.set(1, Block(5, 32, 100, name(2), name(77)))
    upload = upload_of(2 * CHUNK, old=value_of([name(1)] * 2, 2 * CHUNK), pending=pending)
    assert upload.known(0) == [(Origin.CARRIED, name(1))]
    assert upload.known(1) == [(Origin.KEPT, name(77)), (Origin.CARRIED, name(2))]


def test_after_a_recovery_nothing_is_known_to_be_unchanged() -> None:
    old = Value(CHUNK, 1, 7, None, 0, name(1), BLOCK.pack(0, 32, 100, 0, NO_FINGERPRINT))
    upload = upload_of(CHUNK, old=old)
    upload.plan(1)
    assert (upload.known(0), list(upload.sends)) == ([], [0])


def test_only_the_same_bytes_and_attributes_need_no_upload() -> None:
    old = value_of([name(1)] * 2, 2 * CHUNK, {"mode": 1})
    same = upload_of(2 * CHUNK, old=old, attributes={"mode": 1})
    carry(same, set())
    assert same.same_as_old()
    for other, sent in (
        (upload_of(2 * CHUNK, old=old, attributes={"mode": 2}), set()),
        (upload_of(2 * CHUNK - 1, old=old, attributes={"mode": 1}), set()),
        (upload_of(CHUNK, old=old, attributes={"mode": 1}), set()),
        (upload_of(2 * CHUNK, old=old, attributes={"mode": 1}), {1}),
        (upload_of(2 * CHUNK, old=old, pending=Pending([], 2, None, 7), attributes={"mode": 1}), set()),
    ):
        carry(other, sent)
        assert not other.same_as_old()


def test_the_manifest_names_for_every_chunk_the_attempt_that_sealed_it() -> None:
    pending = Pending([name(3)], 4, None, 7, blocks=BlockList())
    pending.blocks.set(2, Block(5, 32, 100, name(3), name(77)))
    upload = upload_of(4 * CHUNK, old=value_of([name(1), name(1), name(2), name(2)], 4 * CHUNK), pending=pending)
    upload.origins[:] = bytes([Origin.CARRIED, Origin.SENT, Origin.KEPT, Origin.CARRIED])
    assert upload.spans() == [Span(name(1), 0, 1), Span(NEW, 1, 1), Span(name(3), 2, 1), Span(name(2), 3, 1)]
    assert upload.carried() == [(0, 1), (3, 1)]
    assert upload.uses_pending()


def test_carried_ranges_are_as_long_as_they_can_be() -> None:
    upload = upload_of(6 * CHUNK, old=value_of([name(1)] * 6, 6 * CHUNK))
    carry(upload, {2})
    assert upload.carried() == [(0, 2), (3, 3)]
    assert not upload.uses_pending()


def test_records_name_the_value_and_this_attempt() -> None:
    upload = upload_of(CHUNK + 1)
    upload.plan(2)
    begin = upload.begin_record()
    assert (begin[:2], decode(begin[2]), begin[3:5], begin[6]) == (["begin", "k"], NEW, [2, None], None)
    upload.manifest()
    upload.begun = True
    assert upload.publish_record(5) == ["publish", "k", CHUNK + 1, 9, upload.modified, None, 5, None, [], 2]


# -- how long a manifest may get


def spans_allowed(upload: Upload) -> int:
    return (LIMIT - manifest_size("k", upload.attributes, 0)) // 32


def reseal_until_it_fits(upload: Upload) -> list[list[int]]:
    """Chunks sealed anew, round by round, as the writer does before it places a manifest."""
    rounds = []
    while again := upload.too_many_spans(upload.spans(), LIMIT):
        upload.reseal(again)
        rounds.append(again)
    return rounds


def fragmented(lengths: list[int], sent: Collection[int] = ()) -> Upload:
    """An update of a value with one carried-over span of each length."""
    ids = [name(number) for number, length in enumerate(lengths) for _ in range(length)]
    upload = upload_of(len(ids) * CHUNK, old=value_of(ids, len(ids) * CHUNK))
    carry(upload, sent)
    upload.unread = 0
    return upload


def test_a_manifest_of_half_a_pad_is_left_as_it_is() -> None:
    upload = fragmented([1] * spans_allowed(fragmented([1])))
    assert reseal_until_it_fits(upload) == []
    assert manifest_size("k", None, len(upload.spans())) <= LIMIT < manifest_size("k", None, len(upload.spans()) + 1)


def test_one_span_more_seals_the_shortest_ones_anew() -> None:
    allowed = spans_allowed(fragmented([1]))
    lengths = [2] * 60 + [5] * (allowed + 1 - 60)
    upload = fragmented(lengths)
    again = upload.too_many_spans(upload.spans(), LIMIT)
    assert set(range(120)) <= set(again), "the spans of two chunks go first"
    assert len(again) < 6 * (allowed // 4 + 2), "and only as many as are needed"


def test_sealing_goes_well_below_the_limit_so_that_not_every_update_pays() -> None:
    allowed = spans_allowed(fragmented([1]))
    upload = fragmented([1] * (allowed + 1))
    reseal_until_it_fits(upload)
    assert len(upload.spans()) <= allowed * 3 // 4 + 1


@settings(max_examples=60, deadline=None, print_blob=True)
@given(seed=st.integers(0, 1 << 32), count=st.integers(200, 700), longest=st.integers(1, 4), share=st.floats(0, 0.6))
def test_every_manifest_ends_within_half_a_pad_and_still_names_every_chunk(
    seed: int, count: int, longest: int, share: float
) -> None:
    chance = random.Random(seed)
    lengths = [chance.randint(1, longest) for _ in range(count)]
    chunks = sum(lengths)
    upload = fragmented(lengths, {chunk for chunk in range(chunks) if chance.random() < share})
    before = upload.spans()
    rounds = reseal_until_it_fits(upload)
    after = upload.spans()
    assert manifest_size("k", None, len(after)) <= LIMIT
    assert [span.first for span in after] == [sum(each.chunks for each in after[:n]) for n in range(len(after))]
    assert sum(span.chunks for span in after) == chunks
    assert bool(rounds) == (manifest_size("k", None, len(before)) > LIMIT)
    sealed = [chunk for again in rounds for chunk in again]
    assert len(sealed) == len(set(sealed)), "a chunk is sealed anew once"
    assert {chunk for chunk, origin in enumerate(upload.origins) if origin == Origin.SENT} >= set(sealed)
    assert sorted(upload.sends) == sorted(sealed), "and sent"


def test_sealing_anew_counts_and_remembers_where_the_chunks_lie() -> None:
    upload = fragmented([1, 2])
    upload.operation.total_bytes = 3 * CHUNK
    assert upload.reseal([0, 2]) == 2
    assert upload.operation.total_bytes == 5 * CHUNK
    assert (list(upload.sends), upload.unread, upload.remaining) == ([0, 2], 2, 3)
    assert {chunk: block.data_id for chunk, block in upload.resealed.items()} == {0: name(0), 2: name(1)}


def test_a_resealed_remainder_goes_with_the_tail() -> None:
    upload = upload_of(CHUNK + 1, old=value_of([name(1), name(2)], CHUNK + 1))
    carry(upload, set())
    assert upload.reseal([1]) == 0
    assert (list(upload.sends), upload.spans()) == ([], [Span(name(1), 0, 1), Span(NEW, 1, 1)])


@pytest.mark.parametrize("streamed", [False, True])
def test_an_update_that_would_shatter_a_value_seals_short_spans_anew(tmp_path: Path, streamed: bool) -> None:
    pad_size = 16 * 1024
    chunk, count = pad_size - 1024, 300
    data = bytearray(random.Random(5).randbytes(1000) * (chunk * count // 1000 + 1))[: chunk * count]
    with Store.create(tmp_path / "home", network="memory://", pad_size=pad_size) as store:
        store.put("k", bytes(data))
        for at in range(0, count, 2):
            data[at * chunk] ^= 1
        entry = store.put("k", iter([bytes(data)]) if streamed else bytes(data))
        value = store._session.journal.index.values["k"]
        assert manifest_size("k", None, len(value.spans())) <= pad_size // 2
        assert entry.transfer is not None
        assert count // 2 < entry.transfer.pads_written < count
        assert store["k"] == data
        assert store.check(read_data=True).problems == ()


def test_spans_of_a_value_are_its_runs_of_one_attempt() -> None:
    ids = [name(number) for number in (1, 1, 2, 1, 3, 3)]
    runs = [(key, len(list(group))) for key, group in groupby(ids)]
    assert [(span.data_id, span.chunks) for span in spans_of(ids)] == runs
    assert value_of(ids, 6 * CHUNK).spans() == spans_of(ids)
