"""What is removed is gone at once for this store, and soon from the network; a failure there is told and made good."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from anthill_sync.errors import KeyExists, KeyNotFound, PutFailed, RewriteFailed
from tests.store_tools import StoreRig, chunks_of, permanent, transient, wait_until
from tests.support import Seen

pytest_plugins = ["tests.store_fixtures"]

REMOVALS: dict[str, Callable[[StoreRig], object]] = {
    "rm": lambda rig: rig.store.delete("a"),
    "rm-prefix": lambda rig: rig.store.delete_prefix("a"),
    "clear": lambda rig: rig.store.clear(),
    "mv": lambda rig: rig.store.rename("a", "z"),
}


@pytest.fixture(params=REMOVALS)
def remove(request: pytest.FixtureRequest) -> Callable[[StoreRig], object]:
    return REMOVALS[request.param]


def test_no_manifest_of_a_removed_key_is_left_on_the_network(each: StoreRig, remove: Callable[[StoreRig], object]) -> None:
    each.store.put_many({"a": chunks_of(1, 2) + b"rest", "b": b"2"})
    for data in (b"small", chunks_of(3), b""):
        each.store["a"] = data
        each.store["b"] = data
    remove(each)
    assert "a" not in each.store
    assert each.manifests()["a"] == 0
    assert each.index.to_rewrite == set()
    each.assert_sound()


@pytest.mark.parametrize("step", ["write", "confirm"])
def test_a_rewrite_that_fails_is_told_and_the_key_stays_removed(
    each: StoreRig, remove: Callable[[StoreRig], object], step: str
) -> None:
    each.store.put_many({"a": chunks_of(1, 2) + b"rest", "b": b"2"})
    skip = 1 if remove is REMOVALS["mv"] else 0  # the new name's manifest is written before
    each.faulty.fail(step, transient, times=10**6, skip=skip)
    with pytest.raises(RewriteFailed) as caught:
        remove(each)
    assert caught.value.exit_code == 75
    assert "a" not in each.store
    left = set(each.index.to_rewrite)
    assert left
    assert "try me again" in str(caught.value)
    each.reopen()  # a later run
    assert "a" not in each.store
    assert each.index.to_rewrite == left
    each.store["other"] = b"3"
    assert each.index.to_rewrite == set()
    assert each.manifests()["a"] == 0
    each.assert_sound(other=b"3")


@pytest.mark.parametrize("key", ["a", "empty"])
def test_values_are_removed_where_the_network_does_not_answer(rig: StoreRig, key: str) -> None:
    rig.store.put_many({"a": chunks_of(1, 2), "empty": b"", "b": b"2"})
    rig.reopen()  # nothing is remembered
    for step in ("read", "write", "confirm"):
        rig.faulty.fail(step, transient, times=10**6)
    with pytest.raises(RewriteFailed, match="try me again"):
        rig.store.delete(key)
    assert key not in rig.store
    assert rig.index.to_rewrite
    rig.mend()
    rig.reopen()
    rig.store["other"] = b"3"
    assert rig.index.to_rewrite == set()
    assert rig.manifests()[key] == 0


def test_a_removal_tells_an_image_that_is_on_its_way_from_here_from_another_writers(rig: StoreRig) -> None:
    rig.store.put_many({"a": chunks_of(1, 2), "b": b"2"})
    gate = rig.faulty.hold("confirm")
    with ThreadPoolExecutor(2) as pool:
        putting = pool.submit(rig.store.put, "b", b"the image is there, its record is not")
        wait_until(lambda: bool(gate.held), lambda: "nothing was sent")
        removing = pool.submit(rig.store.delete, "a")
        wait_until(lambda: "a" not in rig.store or removing.done(), lambda: "it is not removed")
        gate.open()
        putting.result()
        removing.result()
    rig.assert_sound(b=b"the image is there, its record is not")


def test_a_mutation_tries_left_over_rewrites_once_and_only_logs_their_failure(
    rig: StoreRig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.store.put_many({"keep": b"1", "a": chunks_of(1, 2, 3)})
    rig.faulty.fail("write", permanent, times=10**6)
    with pytest.raises(RewriteFailed):
        rig.store.delete("a")
    rig.reopen()
    left = {rig.address(pad) for pad in rig.index.to_rewrite}
    assert len(left) >= 2
    tried: list[str] = []

    def refuse_blank_images(address: str, size: int) -> None:
        if address in left and size < 200:
            tried.append(address)
            raise permanent()

    rig.faulty.before("write", lambda seen: refuse_blank_images(seen.address, len(seen.image.data) if seen.image else 0))
    rig.store.put("b", chunks_of(9))
    assert "b" in rig.store
    assert tried
    assert "old names or data are left" in caplog.text
    rig.mend()
    rig.reopen()
    rig.store["c"] = b"3"
    assert rig.index.to_rewrite == set()
    rig.assert_sound(b=chunks_of(9), c=b"3", keep=b"1")


def test_abandon_whose_rewrite_fails_is_told_and_made_good_later(rig: StoreRig) -> None:
    rig.store["a"] = b"old"
    rig.faulty.fail("write", permanent, times=10**6, skip=25)
    with pytest.raises(PutFailed):
        rig.store.put("a", chunks_of(*range(40)))
    rig.mend()
    rig.store["wake"] = b"up"  # looks after the pads that were in doubt
    rig.faulty.fail("write", permanent, times=10**6)
    with pytest.raises(RewriteFailed):
        rig.store.abandon("a")
    assert rig.store.pending() == []
    assert rig.store["a"] == b"old"
    rig.reopen()
    rig.store["b"] = b"2"
    assert rig.index.to_rewrite == set()
    rig.assert_sound(a=b"old", b=b"2")
    assert rig.store.trim() >= 0
    rig.assert_sound(a=b"old")


def test_a_dead_pad_becomes_an_empty_image(each: StoreRig) -> None:
    each.store.put("a", chunks_of(1, 2, 3))
    pads = {place.pad for place in each.store.stat("a").blocks or ()}
    each.store.delete("a")
    for pad in pads:
        parsed = each.parse(pad, each.image(pad))
        assert parsed is not None
        assert (parsed[1].entries, parsed[1].manifests) == ([], [])
        assert len(each.image(pad)) < 200


def test_the_blocks_of_a_removed_value_leave_the_network_after_its_names(each: StoreRig) -> None:
    each.store.put("a", chunks_of(1, 2, 3))  # first: its blocks lie on lower pads than its manifest
    each.store["b"] = b"keeps the pad of the manifests alive"
    named = each.index.values["a"].manifest_pad
    blocks = {place.pad for place in each.store.stat("a").blocks or ()}
    written: list[int] = []
    each.faulty.before("write", lambda seen: written.append(each.pad_number(seen.address)))
    each.store.delete("a")
    assert written[0] == named
    assert sorted(written[1:]) == sorted(blocks)


def test_blocks_stay_where_the_names_cannot_be_taken_off(each: StoreRig) -> None:
    each.store.put("a", chunks_of(1, 2, 3))  # first: its blocks lie on lower pads than its manifest
    each.store["b"] = b"keeps the pad of the manifests alive"
    blocks = {place.pad: each.image(place.pad) for place in each.store.stat("a").blocks or ()}
    named = each.address(each.index.values["a"].manifest_pad)

    def refuse(seen: Seen) -> None:
        if seen.address == named:
            raise permanent()

    each.faulty.before("write", refuse)
    with pytest.raises(RewriteFailed):
        each.store.delete("a")
    assert {pad: each.image(pad) for pad in blocks} == blocks
    each.mend()
    each.reopen()
    each.store["b"] = b"another run"
    assert each.index.to_rewrite == set()
    each.assert_sound(b=b"another run")


def test_an_update_keeps_freed_pads_for_the_next_put_and_trim_empties_them(rig: StoreRig) -> None:
    rig.store.put("a", chunks_of(1, 2, 3, 4))
    rig.store.put("a", chunks_of(1))
    large = [pad for pad in range(rig.index.pads) if len(rig.image(pad)) > 10000]
    assert len(large) == 4
    assert rig.store.trim() == 3
    large = [pad for pad in range(rig.index.pads) if len(rig.image(pad)) > 10000]
    assert large == [place.pad for place in rig.store.stat("a").blocks or ()]
    assert rig.store.trim() == 0
    rig.assert_sound(a=chunks_of(1))


def test_trim_that_fails_goes_on_next_time(rig: StoreRig) -> None:
    rig.store.put("a", chunks_of(*range(8)))
    rig.store.put("a", b"")
    rig.faulty.fail("write", permanent, times=10**6, skip=3)
    with pytest.raises(RewriteFailed):
        rig.store.trim()
    rig.mend()
    rig.reopen()
    rig.store.trim()
    assert all(len(rig.image(pad)) < 500 for pad in range(rig.index.pads))
    rig.assert_sound(a=b"")


# -- renaming


def test_a_rename_keeps_value_attributes_and_blocks_and_sends_no_data(each: StoreRig) -> None:
    data = chunks_of(*range(6)) + b"rest"
    each.store.put("a", data, attributes={"mode": 1})
    before = each.store.stat("a")
    sizes: list[int] = []
    each.faulty.before("write", lambda seen: sizes.append(len(seen.image.data) if seen.image else 0))
    entry = each.store.rename("a", "b/c")
    assert (entry.key, entry.size, entry.attributes, entry.pads) == ("b/c", before.size, before.attributes, before.pads)
    assert entry.version > before.version
    assert each.store.stat("b/c").blocks == before.blocks
    assert max(sizes) < 2000
    each.reopen()
    each.assert_sound(**{"b/c": data})
    assert list(each.store) == ["b/c"]


def test_a_rename_onto_a_key_needs_force_and_then_replaces_it(rig: StoreRig) -> None:
    rig.store.put_many({"a": chunks_of(1), "b": chunks_of(2, 3)})
    with pytest.raises(KeyExists) as caught:
        rig.store.rename("a", "b")
    assert caught.value.exit_code == 3
    rig.assert_sound(a=chunks_of(1), b=chunks_of(2, 3))
    rig.store.rename("a", "b", force=True)
    rig.assert_sound(b=chunks_of(1))
    assert list(rig.store) == ["b"]
    with pytest.raises(KeyNotFound):
        rig.store.rename("a", "c")
    with pytest.raises(ValueError, match="same key"):
        rig.store.rename("b", "b")


@pytest.mark.parametrize("step", ["reserve", "write", "confirm"])
def test_a_rename_that_fails_leaves_the_old_name(rig: StoreRig, step: str) -> None:
    data = chunks_of(1, 2, 3)
    for key in ("a", "b"):
        rig.store.put(key, data)
    rig.faulty.fail(step, permanent, times=10**6)
    if step == "reserve":
        rig.store.rename("a", "c")  # the shared pad has room: nothing is reserved
    else:
        with pytest.raises(PutFailed):
            rig.store.rename("a", "c")
        assert list(rig.store) == ["a", "b"]
    rig.mend()
    rig.reopen()
    rig.store.delete("b")
    rig.assert_sound()
    assert [rig.store[key] for key in rig.store] == [data]
