"""The index: what every record changes, what it frees, and which records cannot be."""

from __future__ import annotations

import random
from typing import Any

import pytest

from anthill_sync.index import Freed, ImpossibleRecord, MasterIndex, PadStatus, Record
from anthill_sync.packing import encode
from anthill_sync.values import Block, Span, split_ids
from tests.journal_tools import state

from .index_records import DIGEST, A, B, C, block, committed, index_of, publish, small

# -- runs, pads, writing


def test_a_run_record_takes_effect_and_must_rise() -> None:
    index = MasterIndex()
    index.apply(["run", 3, "ab" * 16])
    assert (index.run, index.run_id) == (3, b"\xab" * 16)
    for number in (3, 2):
        with pytest.raises(ImpossibleRecord):
            index.apply(["run", number, "cd" * 16])
    assert index.run_id == b"\xab" * 16


def test_intents_become_reservations_and_gaps_are_filled_first() -> None:
    index = MasterIndex()
    index.apply(["reserving", 2, 3])
    assert list(index.status) == [PadStatus.UNKNOWN, PadStatus.UNKNOWN, PadStatus.RESERVING, PadStatus.RESERVING]
    assert index.unreserved() == [0, 1, 2, 3]
    index.apply(["reserved", 3])
    index.apply(["reserving", 0, 3])  # a repeat changes no reservation
    assert list(index.status) == [1, 1, 1, 2]
    assert index.unreserved() == [0, 1, 2]


def test_writing_names_pads_until_they_are_committed_or_a_run_ends() -> None:
    index = index_of(["writing", [0, 1, 2]], committed(1))
    assert index.writing == {0, 2}
    index.apply(["idle", [2]])
    assert index.writing == {2}


def test_committed_keeps_status_counter_digest_and_blankness() -> None:
    index = index_of(["remove", [], [2, 3]], committed(2, 5, blank=1))
    assert (index.status[2], index.counters[2], index.blank[2]) == (PadStatus.COMMITTED, 5, 1)
    assert (index.digest(2), index.digest(1)) == (b"d" * 16, bytes(16))
    assert index.to_rewrite == {3}


def test_committed_of_a_full_chunk_leaves_out_what_says_nothing() -> None:
    begun: Record = ["begin", "k", encode(A), 1, None, 7, None]
    record = committed(0, blocks=[block(A, 0)])
    assert record[5:] == [[], None, 0]
    assert state(index_of(begun, record)) == state(index_of(begun, record[:5]))
    index = index_of(committed(0, added=[["k", 1, 80, 0]]), committed(0, 2)[:5])
    assert index.stale == {}, "no manifest of the image before is left"


@pytest.mark.parametrize(
    "record",
    [
        ["nonsense"],
        [],
        ["reserved", 99],
        ["reserved", 0],  # reserved already
        ["committed", 0, 0, DIGEST, [], [], None, 0],  # the counter does not rise
        ["committed", 99, 1, DIGEST, [], [], None, 0],
        ["committed", 0, 1, DIGEST, [block(C, 0)], [], None, 0],  # no such attempt
        ["committed", 0, 1, DIGEST, [], [["k", 1, 80, 1]], None, 0],  # no such pending put
        ["committed", 0, 1, "not base64!", [], [], None, 0],
        ["committed", 0, 1 << 64, DIGEST, [], [], None, 0],
        ["committed", 0, 1, DIGEST, [], []],
        ["publish", "new", 5, 1, 7, None, 0, None, [], 1],  # nothing pending
        ["publish", "new", 5, 1, 7, None, 0, [], [], 1],  # a chunk is missing
        ["publish", "new", 5, 1, 7, None, 0, [block(A, 1)], [], 2],  # the first one is
        ["publish", "new", 5, 1, 7, None, 0, [block(A, 0), block(A, 1)], [], 1],  # one too many
        ["publish", "new", 5, 1, 7, None, 0, [], [[0, 1]], 1],  # carried over from nothing
        ["publish", "old", 5, 9, 7, None, 0, [block(A, 0)], [], 1],  # its version does not rise
        ["publish", "old", 5, 10, 7, None, 0, [], [[0, 2]], 2],  # it has one chunk only
        ["abandon", ["old"], []],
        ["rename", "missing", "new", 10, 7, 0, []],
        ["run", 0, "00" * 16],
        ["run", 1, "no hex"],
    ],
)
def test_a_record_that_cannot_follow_is_reported(record: Record) -> None:
    index = index_of(*small("old", 9, 1, 1))
    with pytest.raises(ImpossibleRecord):
        index.apply(record)


# -- small puts, updates and removals


def test_a_put_of_one_image_needs_no_pending_entry() -> None:
    index = index_of(*small("k", 1, 0, 1))
    value = index.values["k"]
    assert (value.size, value.version, value.modified, value.attributes, value.manifest_pad) == (5, 1, 7, {"mode": 1}, 0)
    assert list(value.blocks()) == [Block(0, 32, 100, A, b"f" * 16)]
    assert not index.pending_uploads
    assert not index.stale, "the published manifest is not stale"


def test_an_update_frees_exactly_what_it_replaces() -> None:
    index = index_of(*small("k", 1, 0, 1))
    index.apply(committed(1, 1, added=[["k", 2, 80, 0]], dropped=[]))
    freed = index.apply(publish("k", 2, 1, [block(B, 0, 500, 90)]))
    assert freed == Freed([(0, 32, 100)], [(0, "k", 1)])
    assert index.stale == {"k": {(0, 1)}}
    assert index.manifest_pads("k") == {0, 1}


def test_an_update_keeps_the_chunks_it_carries_over() -> None:
    blocks = [block(A, chunk, 32 + chunk * 100) for chunk in range(4)]
    index = index_of(committed(0), publish("k", 1, 0, blocks, chunks=4))
    freed = index.apply(publish("k", 2, 1, [block(B, 1, 900)], carried=[[0, 1], [2, 2]], chunks=4))
    assert [each.data_id for each in index.values["k"].blocks()] == [A, B, A, A]
    assert freed.extents == [(0, 132, 100)]
    assert index.values["k"].spans() == [Span(A, 0, 1), Span(B, 1, 1), Span(A, 2, 2)]


def test_an_empty_value_has_a_manifest_and_no_block() -> None:
    index = index_of(committed(0, added=[["k", 1, 60, 0]], dropped=[]), publish("k", 1, 0, [], chunks=0, size=0))
    assert (index.values["k"].chunks, index.values["k"].pads(), index.values["k"].spans()) == (0, 0, [])
    assert index.apply(["remove", ["k"], [0]]) == Freed([], [(0, "k", 1)])


def test_remove_frees_value_and_interrupted_put_and_names_pads_to_rewrite() -> None:
    index = index_of(*small("k", 1, 0, 1), ["begin", "k", encode(B), 2, None, 7, None], committed(1, blocks=[block(B, 0)]))
    freed = index.apply(["remove", ["k"], [0, 1]])
    assert sorted(freed.extents) == [(0, 32, 100), (1, 32, 100)]
    assert freed.manifests == [(0, "k", 1)]
    assert (index.values, index.pending_uploads, index.to_rewrite) == ({}, {}, {0, 1})
    assert index.manifest_pads("k") == {0}, "the removed manifest is still on the network"


def test_remove_of_nothing_only_marks_pads() -> None:
    index = index_of(*small("k", 1, 0, 1))
    assert index.apply(["remove", [], [0, 2]]) == Freed()
    assert index.to_rewrite == {0, 2}
    assert "k" in index.values


def test_rename_moves_the_value_and_leaves_the_interrupted_put_under_the_old_name() -> None:
    begin = ["begin", "old", encode(B), 2, None, 7, None]
    index = index_of(*small("old", 1, 0, 1), *small("new", 2, 1, 1, data_id=C), begin, committed(2, added=[["new", 3, 80, 0]]))
    freed = index.apply(["rename", "old", "new", 3, 8, 2, [0]])
    value = index.values["new"]
    assert (value.version, value.modified, value.manifest_pad, value.attributes) == (3, 8, 2, {"mode": 1})
    assert [each.data_id for each in value.blocks()] == [A]
    assert freed == Freed([(1, 32, 100)], [(0, "old", 1), (1, "new", 2)])
    assert list(index.values) == ["new"]
    assert list(index.pending_uploads) == ["old"]
    assert index.to_rewrite == {0}
    assert index.stale == {"old": {(0, 1)}, "new": {(1, 2)}}


# -- interrupted puts


def big_put(*records: Record) -> MasterIndex:
    """Three chunks of "k", begun as attempt A, chunk 0 and 1 committed."""
    begin = ["begin", "k", encode(A), 3, {"path": "/f"}, 7, {"mode": 2}]
    return index_of(begin, committed(0, blocks=[block(A, 0)]), committed(1, blocks=[block(A, 1)]), *records)


def test_a_pending_put_grows_with_its_commits() -> None:
    index = big_put()
    pending = index.pending_uploads["k"]
    assert (pending.data_ids, pending.total, pending.source, pending.started) == ([A], 3, {"path": "/f"}, 7)
    assert (pending.attributes, pending.blocks.done()) == ({"mode": 2}, 2)
    assert [chunk for chunk, _ in pending.blocks.blocks()] == [0, 1]
    assert "k" not in index.values


def test_a_resume_adds_an_attempt_and_frees_a_chunk_only_when_its_replacement_is_committed() -> None:
    index = big_put()
    assert index.apply(["begin", "k", encode(B), None, None, 9, None]) == Freed()
    pending = index.pending_uploads["k"]
    assert (pending.data_ids, pending.total, pending.source, pending.started) == ([A, B], None, None, 7)
    assert pending.blocks.done() == 2
    freed = index.apply(committed(2, blocks=[block(B, 1)]))
    assert freed == Freed([(1, 32, 100)])
    assert pending.blocks.get(1) == Block(2, 32, 100, B, b"f" * 16)


def test_publishing_a_resumed_put_frees_what_it_does_not_use() -> None:
    index = big_put(["begin", "k", encode(B), 2, None, 9, None], committed(2, blocks=[block(B, 1)], added=[["k", 4, 80, 1]]))
    assert index.pending_uploads["k"].manifest == (2, 4, 80)
    index.apply(committed(3, blocks=[block(B, 2)]))  # beyond the new, shorter source
    freed = index.apply(publish("k", 4, 2, None, chunks=2))
    assert freed == Freed([(3, 32, 100)], [])
    assert [each.data_id for each in index.values["k"].blocks()] == [A, B]
    assert (index.pending_uploads, index.stale) == ({}, {})
    assert index._by_data == {}, "the data ids are forgotten with it"


def test_a_second_manifest_of_a_pending_put_frees_the_first() -> None:
    index = big_put(committed(2, added=[["k", 4, 80, 1]], dropped=[]))
    freed = index.apply(committed(3, added=[["k", 5, 81, 1]], dropped=[]))
    assert freed == Freed([], [(2, "k", 4)])
    assert index.pending_uploads["k"].manifest == (3, 5, 81)
    assert index.manifest_pads("k") == {2, 3}
    assert index.apply(publish("k", 5, 3, [block(A, 0)])).manifests == []


def test_abandon_frees_everything_of_the_put_and_nothing_of_the_value() -> None:
    index = index_of(*small("k", 1, 3, 1))
    for record in (["begin", "k", encode(B), 2, None, 7, None], committed(0, blocks=[block(B, 0)], added=[["k", 2, 80, 1]])):
        index.apply(record)
    assert index.apply(["abandon", ["k"], [0]]) == Freed([(0, 32, 100)], [(0, "k", 2)])
    assert index.values["k"].version == 1
    assert index.to_rewrite == {0}


def test_a_chunk_carried_over_wins_over_the_pending_one() -> None:
    index = index_of(*small("k", 1, 3, 1))
    for data_id, pad in ((C, 0), (B, 1)):
        index.apply(["begin", "k", encode(data_id), 2, None, 7, None])
        index.apply(committed(pad, blocks=[block(data_id, pad)]))
    freed = index.apply(publish("k", 2, 2, None, carried=[[0, 1]], chunks=2))
    assert [each.data_id for each in index.values["k"].blocks()] == [A, B]
    assert sorted(split_ids(index.values["k"].data_ids)) == [A, B], "the data id of a block that is not used is not kept"
    assert freed.extents == [(0, 32, 100)]


# -- which pads hold manifests of a key


def test_a_rewrite_takes_out_exactly_the_manifests_it_dropped() -> None:
    index = index_of(*small("a", 1, 0, 1), *small("b", 2, 0, 2, offset=200), *small("a", 3, 0, 3, offset=400))
    assert index.stale == {"a": {(0, 1)}}
    index.apply(committed(0, 4, dropped=[["a", 1]]))
    assert index.stale == {}
    assert index.manifest_pads("a") == index.manifest_pads("b") == {0}


def test_an_image_of_one_chunk_replaces_all_manifests_its_pad_held() -> None:
    index = index_of(*small("a", 1, 0, 1), *small("a", 2, 1, 1))
    assert index.manifest_pads("a") == {0, 1}
    index.apply(committed(0, 2, dropped=None))
    assert index.manifest_pads("a") == {1}
    assert index.manifest_pads("nobody") == set()


def test_a_removed_manifest_in_an_image_that_was_on_its_way_keeps_its_pad_to_be_rewritten() -> None:
    """The image of pad 0 was composed while "a" lived, and is confirmed after "a" was removed: it still holds "a"."""
    index = index_of(*small("a", 1, 0, 1), ["remove", ["a"], [0]])
    for record in small("b", 2, 0, 2, offset=200):
        index.apply(record)
    assert index.to_rewrite == {0}
    index.apply(committed(0, 3, dropped=[["a", 1]]))
    assert index.to_rewrite == set()


def test_a_manifest_that_waits_for_its_publication_needs_no_rewrite() -> None:
    index = big_put(committed(2, added=[["k", 4, 80, 1]], dropped=[]), ["remove", [], [2]], committed(2, 2, dropped=[]))
    assert index.manifest_pads("k") == {2}
    assert index.to_rewrite == set()


# -- images adopted from a crashed run


def adopted(pad: int, manifests: list[Any], counter: int = 2) -> Record:
    return ["adopted", pad, counter, DIGEST, manifests, 0]


def test_an_adopted_image_with_live_manifests_only_is_simply_the_current_one() -> None:
    index = index_of(*small("k", 1, 0, 1), ["writing", [0]], adopted(0, [["k", 1]]))
    assert (index.counters[0], index.writing, index.to_rewrite, index.stale) == (2, set(), set(), {})


def test_an_adopted_image_with_a_manifest_nobody_published_is_to_be_rewritten() -> None:
    index = index_of(*small("k", 1, 0, 1), adopted(0, [["k", 1], ["k", 2], ["other", 3]]))
    assert index.to_rewrite == {0}
    assert index.stale == {"k": {(0, 2)}, "other": {(0, 3)}}


def test_an_adopted_image_with_the_manifest_of_a_pending_put_keeps_it() -> None:
    index = big_put(committed(2, added=[["k", 4, 80, 1]], dropped=[]), adopted(2, [["k", 4]]))
    assert index.to_rewrite == set()
    assert index.manifest_pads("k") == {2}


def test_an_adopted_image_of_an_older_counter_is_impossible() -> None:
    with pytest.raises(ImpossibleRecord):
        index_of(*small("k", 1, 0, 2), adopted(0, [], counter=2))


def test_pads_of_a_snapshot_follow_each_other_and_are_told_alike() -> None:
    index = MasterIndex()
    index.put_pads(0, b"\3", b"\0", (7).to_bytes(8, "little"), bytes(16))
    for first, status, digests in ((0, b"\3", bytes(16)), (2, b"\3", bytes(16)), (1, b"\3\3", bytes(16)), (1, b"\3", bytes(32))):
        with pytest.raises(ImpossibleRecord):
            index.put_pads(first, status, b"\0", (7).to_bytes(8, "little"), digests)
    assert index.pads == 1


# -- bookkeeping against a plain model


def test_stale_manifests_are_exactly_those_on_the_pads_and_not_published() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance, index = random.Random(seed), index_of(pads=6)
    images: list[set[tuple[str, int]]] = [set() for _ in range(6)]  # manifests in each pad's image
    for version in range(1, 300):
        key, pad = chance.choice("abc"), chance.randrange(6)
        live = {(k, v.version) for k, v in index.values.items() if v.manifest_pad == pad}
        if chance.random() < 0.75:
            dropped = sorted(images[pad] - live)
            index.apply(committed(pad, version, added=[[key, version, 80, 0]], dropped=[list(name) for name in dropped]))
            index.apply(publish(key, version, pad, [block(A, 0)]))
            images[pad] = (images[pad] & live) | {(key, version)}
        elif key in index.values:
            index.apply(["remove", [key], []])
        for key in "abc":
            holding = {pad for pad, names in enumerate(images) if any(name == key for name, _ in names)}
            assert index.manifest_pads(key) == holding
