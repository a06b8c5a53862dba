"""Whoever takes a store over trusts a pad only as long as nobody else is writing to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from anthill_sync.errors import AnotherWriter, PutFailed, RewriteFailed, StoreClosed
from anthill_sync.index import MasterIndex, Record
from anthill_sync.operation import Operation
from anthill_sync.takeover import _adopt, map_of, only_dead
from tests.store_tools import StoreRig, chunks_of, permanent
from tests.support import Seen
from tests.test_pads import PAD, Bench

pytest_plugins = ["tests.store_fixtures"]

LARGE = chunks_of(*range(40))


def test_an_image_that_changes_while_it_is_taken_over_is_another_writer_s() -> None:
    bench = Bench()
    bench.put(bench.image(counter=1))
    header, packed = bench.pads.read_header(PAD)
    assert header is not None
    table = bench.pads.read_table(PAD, header, packed)
    bench.put(bench.image(counter=2))
    with pytest.raises(AnotherWriter, match="changed while it was read"):
        _adopt(bench.pads, PAD, header, table)


def test_a_pad_whose_image_may_still_be_sent_stays_named_when_the_lock_is_given_back(rig: StoreRig) -> None:
    """An interrupt may end the caller between the record and the sending, which goes on in its own thread."""
    rig.store.reserve(1)
    rig.session.mutate((), lambda _: rig.session.allocator.committer.announce(0))
    assert rig.index.writing == {0}
    rig.store["k"] = b"v"
    assert rig.index.writing == set()
    rig.assert_sound(k=b"v")


def test_a_pad_that_was_named_ahead_is_not_sent_to_once_the_lock_was_given_back(rig: StoreRig) -> None:
    """By a unit that a second interrupt left running."""
    rig.store.reserve(2)
    supply, committer, operation = rig.session.allocator.supply, rig.session.allocator.committer, Operation()

    def name_and_want_no_more(index: MasterIndex) -> None:
        supply.want(operation, 2)
        committer.announce(0)
        assert index.writing == {0, 1}
        supply.withdraw(operation)

    rig.session.mutate((), name_and_want_no_more)
    assert rig.index.writing == {0}
    with pytest.raises(StoreClosed):
        committer.announce(1)
    rig.store["k"] = b"v"
    rig.assert_sound(k=b"v")


def interrupted_with_images_nobody_heard_of(rig: StoreRig) -> None:
    """Everything that a put of 40 chunks sends after 10 images arrives, and no answer to it does."""
    rig.faulty.fail("write", permanent, times=10**6, skip=10, lost=True)
    with pytest.raises(PutFailed):
        rig.store["k"] = LARGE
    rig.mend()
    rig.reopen()
    assert rig.index.writing


def test_an_adopted_image_is_dead_unless_it_is_empty_or_something_on_its_pad_lives(rig: StoreRig) -> None:
    rig.store["small"] = b"lives"
    rig.store.reserve(2)
    memory_map, live = map_of(rig.index, rig.session.allocator.pad_size, 0), rig.index.values["small"].manifest_pad
    empty, dead = (pad for pad in range(3) if pad != live)
    adopted: list[Record] = [["adopted", pad, 9, "", [], blank] for pad, blank in [(live, 0), (empty, 1), (dead, 0)]]
    assert only_dead(memory_map, adopted) == [dead]


@pytest.mark.parametrize("way", ["abandon", "delete"])
@pytest.mark.parametrize("between", [False, True], ids=["at once", "after another run"])
def test_chunks_that_nobody_heard_of_leave_the_network_with_the_put_they_were_of(rig: StoreRig, way: str, between: bool) -> None:
    rig.store["k"] = b"old"
    interrupted_with_images_nobody_heard_of(rig)
    if between:
        rig.store.reserve(1)
        rig.reopen()
        assert not rig.index.writing
    getattr(rig.store, way)("k")
    assert (rig.store.pending(), rig.index.to_rewrite) == ([], set())
    assert rig.store.trim() == 0  # nothing is left to empty
    rig.assert_sound(**({"k": b"old"} if way == "abandon" else {}))


def test_a_put_is_not_given_up_silently_while_chunks_that_nobody_heard_of_stay(rig: StoreRig) -> None:
    interrupted_with_images_nobody_heard_of(rig)
    rig.store.reserve(1)
    left = {rig.address(pad) for pad in rig.index.to_rewrite}
    assert left

    def refuse_empty_images(seen: Seen) -> None:
        if seen.address in left and len(seen.image.data if seen.image else b"") < 200:
            raise permanent()

    rig.faulty.before("write", refuse_empty_images)
    with pytest.raises(RewriteFailed):
        rig.store.abandon("k")
    rig.mend()
    rig.reopen()
    rig.store["other"] = b"changed"
    assert rig.index.to_rewrite == set()
    rig.assert_sound(other=b"changed")


def test_pads_with_chunks_that_nobody_heard_of_are_the_first_that_the_same_put_takes(rig: StoreRig) -> None:
    interrupted_with_images_nobody_heard_of(rig)
    with rig.counting() as calls:
        rig.store["k"] = LARGE
    assert calls["write"] <= 40 - 10 + 1
    assert rig.index.to_rewrite == set()
    rig.assert_sound(k=LARGE)


def test_where_a_write_is_paid_chunks_that_nobody_heard_of_stay(rig: StoreRig, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_with_images_nobody_heard_of(rig)
    paid = replace(rig.session.pads.network.properties, write_is_paid=True)
    monkeypatch.setattr(type(rig.session.pads.network), "properties", paid)
    rig.store.abandon("k")
    assert rig.index.to_rewrite == set()
    assert sum(map(bool, rig.index.blank)) == 0


@pytest.mark.parametrize("step", ["_lock.acquire", "take"])
def test_what_an_earlier_run_was_writing_stays_named_when_an_interrupt_comes_before_anybody_looked(
    rig: StoreRig, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    rig.faulty.fail("write", permanent, lost=True)
    with pytest.raises(PutFailed):
        rig.store["k"] = b"arrived, and nobody heard of it"
    rig.reopen()
    assert rig.index.writing == {0}
    with monkeypatch.context() as patch:
        interrupt_after(patch, rig.session.journal, step)
        with pytest.raises(KeyboardInterrupt):
            rig.store.put("k", b"not even begun")
    assert not rig.session.journal.held
    assert rig.index.writing == {0}
    rig.store["k"] = b"v"
    assert rig.index.writing == set()
    rig.assert_sound(k=b"v")


def interrupt_after(patch: pytest.MonkeyPatch, owner: Any, path: str) -> None:
    """A KeyboardInterrupt when the method has just returned."""
    *attributes, name = path.split(".")
    for attribute in attributes:
        owner = getattr(owner, attribute)
    method: Callable[..., object] = getattr(owner, name)

    def call(*arguments: object) -> None:
        method(*arguments)
        raise KeyboardInterrupt

    patch.setattr(owner, name, call)
