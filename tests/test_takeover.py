"""Whoever takes a store over trusts a pad only as long as nobody else is writing to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from anthill_sync.errors import AnotherWriter, PutFailed, StoreClosed
from anthill_sync.index import MasterIndex
from anthill_sync.operation import Operation
from anthill_sync.takeover import _adopt
from tests.store_tools import StoreRig, permanent
from tests.test_pads import PAD, Bench

pytest_plugins = ["tests.store_fixtures"]


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
