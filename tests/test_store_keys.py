"""Keys, prefixes, order, and the numbers a Store answers with."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest

from anthill_sync.errors import InvalidArgument, KeyNotFound
from tests.store_tools import CHUNK, PAD, StoreRig, chunks_of, permanent

pytest_plugins = ["tests.store_fixtures"]

BAD_KEYS: list[Any] = [
    "", "/", "/a", "a/", "a//b", ".", "..", "a/./b", "a/..", "../a", "a\nb", "a\x00", "\x7f", "\x85", "\ud800",
    "x" * 1025, "\N{SNOWMAN}" * 342, 5, None, b"a", ("a",), 1.5,
]  # fmt: skip
GOOD_KEYS = [
    "a",
    "x" * 1024,
    "\N{SNOWMAN}" * 341,
    "a b",
    "...",
    "a/.b",
    ".a/..b",
    "\N{LINE SEPARATOR}",
    "'\"\\",
    "é",
    "é",
    "a" + "/b" * 500,
]


@pytest.mark.parametrize("key", BAD_KEYS, ids=lambda key: repr(key)[:20])
@pytest.mark.parametrize(
    "use",
    [
        lambda store, key: store.put(key, b"1"),
        lambda store, key: store.put_many([("good", b"1"), (key, b"1")]),
        lambda store, key: store[key],
        lambda store, key: store.get_into(key, None),
        lambda store, key: store.stat(key),
        lambda store, key: store.delete("good", key),
        lambda store, key: store.rename("good", key),
        lambda store, key: store.rename(key, "good"),
        lambda store, key: store.abandon(key),
    ],
    ids=["put", "put_many", "get", "get_into", "stat", "delete", "rename-to", "rename-from", "abandon"],
)
def test_a_bad_key_is_refused_everywhere_and_changes_nothing(rig: StoreRig, key: Any, use: Callable[[Any, Any], object]) -> None:
    rig.store["good"] = b"kept"
    with rig.counting() as calls, pytest.raises(InvalidArgument) as caught:
        use(rig.store, key)
    assert caught.value.exit_code == 64
    assert not calls
    assert dict(rig.store) == {"good": b"kept"}


def test_every_good_key_keeps_its_own_value(each: StoreRig) -> None:
    values = {key: key.encode() for key in GOOD_KEYS}
    each.store.put_many(values)
    assert dict(each.reopen()) == values


def test_keys_come_in_the_order_of_their_bytes(rig: StoreRig) -> None:
    keys = ["b", "a/b", "a", "a-b", "a/b/c", "Z", "é", "\N{SNOWMAN}", "\U0001f41c", "\uffee", "aa", "a.b"]
    rig.store.put_many(dict.fromkeys(keys, b"x"))
    expected = sorted(keys, key=lambda key: key.encode())
    assert list(rig.store) == expected
    assert [entry.key for entry in rig.store.entries()] == expected


def test_a_prefix_means_the_key_itself_and_all_below_it(rig: StoreRig) -> None:
    rig.store.put_many(dict.fromkeys(["a", "a/b", "a/b/c", "a-b", "aa", "b/a"], b"x"))
    found = {prefix: [entry.key for entry in rig.store.entries(prefix)] for prefix in ("", "a", "a/", "a/b", "b", "c")}
    assert found == {
        "": ["a", "a-b", "a/b", "a/b/c", "aa", "b/a"],
        "a": ["a", "a/b", "a/b/c"],
        "a/": ["a", "a/b", "a/b/c"],
        "a/b": ["a/b", "a/b/c"],
        "b": ["b/a"],
        "c": [],
    }
    assert rig.store.delete_prefix("a/b") == ["a/b", "a/b/c"]
    assert rig.store.delete_prefix("nothing") == []
    assert list(rig.store) == ["a", "a-b", "aa", "b/a"]


@pytest.mark.parametrize("prefix", ["", "/", "//", "a//b", "a\n"])
def test_a_bad_or_empty_prefix_deletes_nothing(rig: StoreRig, prefix: str) -> None:
    rig.store["a"] = b"1"
    with pytest.raises(InvalidArgument):
        rig.store.delete_prefix(prefix)
    assert list(rig.store) == ["a"]


def test_delete_is_all_or_nothing(rig: StoreRig) -> None:
    rig.store.put_many({"a": b"1", "b": b"2", "c": b"3"})
    with pytest.raises(KeyNotFound):
        rig.store.delete("a", "missing", "b")
    assert list(rig.store) == ["a", "b", "c"]
    assert rig.store.delete("b", "missing", "a", "b", ignore_missing=True) == ["b", "a"]
    rig.reopen()
    rig.assert_sound(c=b"3")
    assert list(rig.store) == ["c"]


# -- numbers


def test_stat_tells_where_every_chunk_lies(each: StoreRig) -> None:
    before = datetime.now(timezone.utc)
    each.store.put("a", chunks_of(1, 2, 3) + b"rest", attributes={"x": 1})
    entry = each.store.stat("a")
    assert entry.blocks is not None
    assert [block.chunk for block in entry.blocks] == [0, 1, 2, 3]
    assert len({block.pad for block in entry.blocks}) == entry.pads == 4
    assert before <= entry.modified <= datetime.now(timezone.utc)
    (listed,) = each.store.entries()
    assert listed == entry
    assert listed.blocks is None
    for block in entry.blocks:
        parsed = each.parse(block.pad, each.image(block.pad))
        assert parsed is not None
        assert (block.chunk, block.offset, block.length) in [each_[1:] for each_ in parsed[1].entries]


def assert_numbers_add_up(rig: StoreRig) -> None:
    usage, index = rig.store.usage(), rig.index
    pads, size = usage.pads, usage.bytes
    assert pads.total == pads.used + pads.free
    assert pads.reserved == sum(status == 1 + 1 for status in index.status)
    assert pads.reserved <= pads.free
    assert size.stored == sum(entry.size for entry in rig.store.entries())
    assert size.live + size.free + size.gaps <= pads.total * PAD
    assert size.free >= pads.free * CHUNK
    assert usage.keys == len(rig.store)
    assert len(usage.fill) >= pads.total
    used = {place.pad for key in rig.store for place in rig.store.stat(key).blocks or ()}
    assert used <= {pad for pad, level in enumerate(usage.fill) if level}


def test_usage_adds_up_after_every_kind_of_change(each: StoreRig) -> None:
    store, seed = each.store, 7
    chance = random.Random(seed)
    assert_numbers_add_up(each)
    store.reserve(3)
    assert_numbers_add_up(each)
    for step in range(12):
        key, size = chance.choice("abcd"), chance.choice([0, 1, 500, CHUNK, 3 * CHUNK + 9])
        store.put(key, chance.randbytes(size))
        if step % 3 == 2:
            store.delete(chance.choice(list(store)))
        assert_numbers_add_up(each)
    store.rename(next(iter(store)), "z")
    store.trim()
    assert_numbers_add_up(each)
    each.reopen()
    assert_numbers_add_up(each)
    assert each.store.usage() == each.store.usage()


def test_a_pad_whose_reservation_failed_is_not_counted_as_ours(rig: StoreRig) -> None:
    rig.faulty.fail("reserve", permanent, times=99, skip=3)
    with pytest.raises(Exception, match="the network says no"):
        rig.store.put("a", chunks_of(*range(8)))
    assert_numbers_add_up(rig)
    pads = rig.store.usage().pads
    assert pads.total == rig.faulty.done["reserve"]
    assert pads.reserved == pads.total - rig.faulty.done["write"]  # some may have been written before the failure


def test_reserve_says_how_many_and_later_puts_use_them(rig: StoreRig) -> None:
    assert rig.store.reserve(4) == 4
    assert rig.store.reserve(0) == 0
    with pytest.raises(InvalidArgument):
        rig.store.reserve(-1)
    entry = rig.store.put("a", chunks_of(1, 2, 3))
    assert entry.transfer is not None
    assert (entry.transfer.pads_reserved, entry.transfer.pads_written) == (0, 4)


def test_a_transfer_counts_the_images_that_were_sent(rig: StoreRig) -> None:
    with rig.counting() as calls:
        sizes: list[int] = []
        rig.faulty.before("write", lambda seen: sizes.append(len(seen.image.data) if seen.image else 0))
        entry = rig.store.put("a", chunks_of(1, 2) + b"rest")
    assert entry.transfer is not None
    assert entry.transfer.pads_written == calls["write"] == 3
    assert entry.transfer.pads_reserved == calls["reserve"] == 3
    assert entry.transfer.bytes_sent == sum(sizes)
