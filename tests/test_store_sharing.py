"""Small values share images and syncs; when a shared image fails, its puts fail, and everyone else goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from anthill_sync.errors import AnotherWriter, AnthillError, BlockDamaged, PutFailed, RolledBack, SourceChanged
from tests.store_tools import CHUNK, StoreRig, chunks_of, gaps_of, permanent, wait_until
from tests.support import PATIENCE

pytest_plugins = ["tests.store_fixtures"]

Background = Callable[[Callable[[], Any]], "Future[Any]"]


def put_small(rig: StoreRig, number: int, size: int = 20) -> Callable[[], Any]:
    return lambda: rig.store.put(f"k{number}", f"{number:0{size}}".encode())


def waiting(rig: StoreRig) -> int:
    """Values that wait for the next image of their shared pad."""
    return sum(map(len, list(rig.session.allocator.writer.shared._uploads.values())))


def hold_first_and_queue(
    rig: StoreRig, background: Background, count: int, *, failing: int | None = None
) -> tuple[Any, list[Future[Any]]]:
    """One put whose image is held on its way, and so many more that wait for the next image of the same pad. The image
    of number ``failing`` (from 0) will fail."""
    gate = rig.faulty.hold("write")
    if failing is not None:
        rig.faulty.fail("write", permanent, skip=failing)
    puts = [background(put_small(rig, 0))]
    gate.wait_for(1)
    puts += [background(put_small(rig, number)) for number in range(1, count)]
    wait_until(lambda: waiting(rig) == count - 1, lambda: f"{waiting(rig)} values wait")
    return gate, puts


def test_small_puts_of_twenty_threads_share_images_and_syncs(each: StoreRig, background: Background) -> None:
    each.store["first"] = b"0"
    lines = each.journal_lines()
    with each.counting() as calls:
        gate, puts = hold_first_and_queue(each, background, 20)
        gate.open()
        for put in puts:
            put.result(PATIENCE)
    assert calls["write"] == 2
    assert each.journal_lines() - lines <= 8
    each.assert_sound(**{f"k{number}": f"{number:020}".encode() for number in range(20)})


def test_one_put_many_of_a_thousand_small_values_writes_few_images(rig: StoreRig) -> None:
    values = {f"dir/{number}": f"{number:0100}".encode() for number in range(1000)}
    with rig.counting() as calls:
        entries = rig.store.put_many(values)
    assert calls["write"] <= 30  # 1,000 x (100 + seal, entry and manifest) on pads of 16 KiB
    assert len(entries) == 1000
    rig.assert_sound(**values)


def test_a_shared_image_that_fails_fails_its_puts_and_later_ones_go_on(each: StoreRig, background: Background) -> None:
    each.store["first"] = b"0"
    gate, puts = hold_first_and_queue(each, background, 8, failing=0)
    gate.open()
    failures = [put.exception(PATIENCE) for put in puts]
    assert all(isinstance(error, PutFailed) for error in failures)
    assert all("the network says no" in str(error) for error in failures)
    assert list(each.store) == ["first"]
    for number in range(8):
        put_small(each, number)()
    each.assert_sound(first=b"0", k7=f"{7:020}".encode())


def test_when_the_second_image_fails_the_puts_of_the_first_stay(rig: StoreRig, background: Background) -> None:
    rig.store["first"] = b"0"
    gate, puts = hold_first_and_queue(rig, background, 8, failing=1)
    gate.open()
    assert [type(put.exception(PATIENCE)) for put in puts] == [type(None)] + [PutFailed] * 7
    rig.mend()
    rig.reopen()
    assert list(rig.store) == ["first", "k0"]
    rig.assert_sound(first=b"0", k0=f"{0:020}".encode())


def test_a_value_planned_into_a_pad_that_falls_into_doubt_never_overwrites_it(rig: StoreRig, background: Background) -> None:
    rig.store["first"] = b"0"
    in_doubt: set[str] = set()
    large_gate = rig.faulty.hold("reserve")
    large = background(lambda: rig.store.put("large", chunks_of(1, 2) + b"rest planned into the shared pad"))
    large_gate.wait_for(1)

    def fail_once(seen: Any) -> None:
        assert seen.address not in in_doubt, "a pad with an unanswered attempt was written again"
        if not in_doubt:
            in_doubt.add(seen.address)
            raise permanent()

    rig.faulty.before("write", fail_once)
    with pytest.raises(PutFailed):
        rig.store.put("small", b"1")
    large_gate.open()
    with pytest.raises(PutFailed, match="the network says no"):
        large.result(PATIENCE)
    rig.mend()
    rig.store.put("large", chunks_of(1, 2) + b"rest")
    rig.assert_sound(first=b"0", large=chunks_of(1, 2) + b"rest")


def test_small_values_go_to_another_pad_when_one_is_in_doubt(rig: StoreRig, background: Background) -> None:
    rig.store["first"] = b"0"
    gate = rig.faulty.hold("reserve")
    holder = background(lambda: rig.store.put("holder", chunks_of(1)))  # keeps the lock, so that the doubt lasts
    gate.wait_for(1)
    shared = rig.address(0)
    rig.faulty.fail("write", permanent)
    with pytest.raises(PutFailed):
        rig.store.put("small", b"1")
    gate.open()
    later = rig.faulty.calls["write"]
    rig.store.put("other", b"2")
    assert shared not in rig.faulty.addresses("write")[later:]
    holder.exception(PATIENCE)
    rig.mend()
    rig.assert_sound(first=b"0", other=b"2")


def test_a_source_that_fails_spoils_only_its_own_put_of_a_shared_image(
    rig: StoreRig, background: Background, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"before")
    rig.store["first"] = b"0"
    gate = rig.faulty.hold("write")
    first = background(put_small(rig, 0))
    gate.wait_for(1)
    bad = background(lambda: rig.store.put("bad", tmp_path / "file"))
    good = [background(put_small(rig, number)) for number in range(1, 5)]
    wait_until(lambda: waiting(rig) == 5, lambda: f"{waiting(rig)} values wait")
    (tmp_path / "file").write_bytes(b"after, and longer")
    gate.open()
    with pytest.raises(PutFailed) as caught:
        bad.result(PATIENCE)
    assert isinstance(caught.value.__cause__, SourceChanged)
    for put in [first, *good]:
        put.result(PATIENCE)
    assert "bad" not in rig.store
    rig.assert_sound(k4=f"{4:020}".encode())


# -- a shared pad that is not what was written


def damage(rig: StoreRig, pad: int, how: str, older: bytes) -> None:
    """Behind the store's back."""
    path = rig.pad_file(pad)
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[40] ^= 1
    elif how == "table":
        data[-20] ^= 1
    elif how == "truncated":
        del data[len(data) // 2 :]
    elif how == "older":
        data[:] = older
    elif how == "emptied":
        data.clear()
    elif how == "newer":
        data[8] += 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("flipped", BlockDamaged),
        ("table", BlockDamaged),
        ("truncated", BlockDamaged),
        ("older", RolledBack),
        ("emptied", RolledBack),
        ("newer", AnotherWriter),
    ],
)
def test_a_damaged_shared_pad_is_found_before_it_is_rewritten(
    rigs: Callable[..., StoreRig], how: str, kind: type[AnthillError]
) -> None:
    rig = rigs("embedded")
    rig.store["a"] = b"1"
    older = rig.image(0)
    rig.store["b"] = b"2"
    rig.reopen()
    damage(rig, 0, how, older)
    damaged = rig.image(0)
    with pytest.raises(PutFailed) as caught:
        rig.store.put("c", b"3")
    assert isinstance(caught.value.__cause__, kind)
    assert caught.value.exit_code == kind.exit_code
    assert rig.image(0) == damaged
    assert caught.value.context["pad"] == rig.address(0)
    assert list(rig.store) == ["a", "b"]


def test_a_pad_that_waits_for_a_rewrite_is_not_handed_to_another_put(
    rigs: Callable[..., StoreRig], background: Background
) -> None:
    rig = rigs(rewrite_limit="0")  # nothing is added to a pad that holds anything
    rig.store.put_many({"a": b"1", "b": b"2"})
    reserving = rig.faulty.hold("reserve")
    large = background(lambda: rig.store.put("large", chunks_of(1, 2)))  # takes whatever pad becomes empty
    reserving.wait_for(1)
    writing = rig.faulty.hold("write")
    first = background(lambda: rig.store.delete("a"))
    writing.wait_for(1)
    second = background(lambda: rig.store.delete("b"))
    rewriters = rig.session.allocator.writer.shared._rewriters
    wait_until(lambda: bool(rewriters), lambda: "the second removal does not wait for the pad")
    writing.open()
    assert (first.result(PATIENCE), second.result(PATIENCE)) == (["a"], ["b"])
    reserving.open()
    large.result(PATIENCE)
    rig.assert_sound(large=chunks_of(1, 2))


def test_gaps_of_a_shared_pad_are_used_again(rig: StoreRig) -> None:
    for number in range(100):
        rig.store[f"k{number % 4}"] = bytes([number]) * (1000 + number)
    assert rig.store.usage().pads.total == 1
    rig.assert_sound(k3=bytes([99]) * 1099)


def test_gaps_of_a_shared_pad_hold_nothing_of_other_images(rigs: Callable[..., StoreRig]) -> None:
    """Images are made in a buffer that the thread used before; here there is one thread."""
    rig = rigs(upload_threads=1)
    rig.store.put_many({f"k{number}": bytes([number]) * 1500 for number in range(5)})
    rig.store["large"] = chunks_of(7)
    rig.store.delete("k1", "k3")
    pad = rig.index.values["k4"].manifest_pad
    parsed = rig.parse(pad, rig.image(pad))
    assert parsed is not None
    gaps = gaps_of(rig.image(pad), *parsed)
    assert len(gaps) >= 3000
    assert not any(gaps)


def test_a_pad_over_the_rewrite_limit_is_closed_and_its_gaps_are_told(rigs: Callable[..., StoreRig]) -> None:
    rig = rigs(rewrite_limit="4KiB")
    rig.store.put_many({f"k{number}": bytes(1500) for number in range(6)})
    usage = rig.store.usage()
    assert usage.bytes.gaps > 0
    shared = {place.pad for key in rig.store for place in rig.store.stat(key).blocks or ()}
    sent: list[int] = []
    rig.faulty.before("write", lambda seen: sent.append(rig.pad_number(seen.address)))
    rig.store["more"] = b"1"
    assert not shared & set(sent) or usage.bytes.free > 0
    rig.assert_sound(more=b"1")


def test_a_remainder_goes_where_it_fits_best(rig: StoreRig) -> None:
    rig.store.put_many({"half": bytes(CHUNK // 2), "most": bytes(CHUNK - 3000)})
    half, most = ((rig.store.stat(key).blocks or ())[0].pad for key in ("half", "most"))
    assert half != most
    rig.store["tiny"] = b"1"
    rig.store["third"] = bytes(CHUNK // 3)
    assert (rig.store.stat("tiny").blocks or ())[0].pad == most
    assert (rig.store.stat("third").blocks or ())[0].pad == half
    rig.assert_sound()


def test_a_reader_never_sees_a_pad_half_rewritten(rig: StoreRig, background: Background) -> None:
    rig.store["a"] = b"kept"
    stop = threading.Event()

    def read() -> int:
        reads = 0
        while not stop.is_set() or not reads:
            assert rig.store["a"] == b"kept"
            reads += 1
        return reads

    readers = [background(read) for _ in range(3)]
    for number in range(60):
        rig.store["b"] = bytes([number]) * number
    stop.set()
    assert all(reader.result(PATIENCE) for reader in readers)


def test_a_small_put_beside_another_takes_one_journal_line(rig: StoreRig, background: Background) -> None:
    """The record that commits an image announces the pad's next one, when others keep the store's lock."""
    begun, over = threading.Event(), threading.Event()

    def stream() -> Iterator[bytes]:
        begun.set()
        assert over.wait(PATIENCE)
        yield b"end"

    kept = background(lambda: rig.store.put("kept", stream()))
    assert begun.wait(PATIENCE)
    rig.store["a"] = b"1"
    before = rig.index.sequence
    rig.store["b"] = b"2"
    assert rig.index.sequence == before + 1
    assert rig.index.writing == {rig.index.values["b"].manifest_pad}, "named before its image may be sent"
    over.set()
    kept.result(PATIENCE)
    rig.assert_sound(a=b"1", b=b"2", kept=b"end")
    assert rig.index.writing == set()


def test_a_small_put_alone_leaves_no_pad_announced(rig: StoreRig) -> None:
    """Whoever takes the lock after a crash would have to look at it."""
    rig.store["a"] = b"1"
    rig.store["b"] = b"2"
    records = [record[0] for record in rig.durable_records()]
    assert records[-4:] == ["writing", "committed", "publish", "idle"]
