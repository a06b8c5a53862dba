"""``store.open`` for writing: what an exception, ``discard`` or the program's end leaves."""

from __future__ import annotations

import contextlib
import gc
import gzip
import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import Store
from anthill_sync.errors import NestedMutation, PermissionRefused, StoreClosed
from anthill_sync.handles import TextWriter, ValueWriter
from tests.store_tools import StoreRig, chunks_of
from tests.support import PATIENCE

pytest_plugins = ["tests.store_fixtures"]

Background = Callable[[Callable[[], Any]], "Future[Any]"]


class Whim(Exception):
    """What may go wrong in a caller's block."""


# -- writing: what does not publish


def bare(store: Store) -> None:
    with store.open("a", "wb") as value:
        value.write(b"new")
        raise Whim


def text(store: Store) -> None:
    with store.open("a", "w") as value:
        value.write("new" * 10_000)
        raise Whim


def text_wrapper(store: Store) -> None:
    with io.TextIOWrapper(store.open("a", "wb")) as value:
        value.write("new")
        raise Whim


def buffer_in_text_wrapper(store: Store) -> None:
    with io.TextIOWrapper(io.BufferedWriter(store.open("a", "wb"))) as value:
        value.write("new" * 10_000)
        raise Whim


def gzip_around(store: Store) -> None:
    with store.open("a", "wb") as value, gzip.open(value, "wb") as zipped:
        zipped.write(b"new")
        raise Whim


def gzip_alone(store: Store) -> None:
    with warnings.catch_warnings(), gzip.open(store.open("a", "wb"), "wt") as zipped:
        warnings.simplefilter("ignore")  # gzip closes nothing that it did not open
        zipped.write("new")
        raise Whim


def finally_closed(store: Store) -> None:
    value = store.open("a", "wb")
    try:
        value.write(b"new")
        raise Whim
    finally:
        value.close()


def stack(store: Store) -> None:
    with contextlib.ExitStack() as stack:
        value = stack.enter_context(contextlib.closing(store.open("a", "wb")))
        value.write(b"new")
        raise Whim


def in_a_handler(store: Store) -> None:
    try:
        raise KeyError
    except KeyError:
        with io.TextIOWrapper(store.open("a", "wb")) as value:
            value.write("new")
            raise Whim from None


def interrupted(store: Store) -> None:
    with contextlib.suppress(KeyboardInterrupt), io.TextIOWrapper(store.open("a", "wb")) as value:
        value.write("new")
        raise KeyboardInterrupt
    raise Whim


FAILING = [
    bare,
    text,
    text_wrapper,
    buffer_in_text_wrapper,
    gzip_around,
    gzip_alone,
    finally_closed,
    stack,
    in_a_handler,
    interrupted,
]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("fail", FAILING)
@pytest.mark.parametrize("old", [None, b"old"])
def test_an_exception_leaves_the_old_value(rig: StoreRig, fail: Callable[[Store], None], old: bytes | None) -> None:
    if old is not None:
        rig.store["a"] = old
    with pytest.raises(Whim):
        fail(rig.store)
    gc.collect()
    assert rig.store.get("a") == old


@pytest.mark.parametrize("mode", ["w", "wb", "x", "xb"])
def test_discard_leaves_the_old_value(rig: StoreRig, mode: str) -> None:
    key = "a" if "w" in mode else "b"
    rig.store["a"] = b"old"
    with rig.store.open(key, mode) as value:
        value.write("new" if "b" not in mode else b"new")
        value.discard()
        value.discard()
    value.close()
    assert value.closed
    assert value.entry is None
    assert "b" not in rig.store
    rig.assert_sound(a=b"old")


def test_a_value_written_inside_a_handler_of_an_older_exception_is_published(rig: StoreRig) -> None:
    try:
        raise KeyError
    except KeyError:
        with rig.store.open("a", "w") as value:
            value.write("1")
        with io.TextIOWrapper(rig.store.open("b", "wb")) as wrapped:
            wrapped.write("2")
    late = rig.store.open("c", "w")
    try:
        raise KeyError
    except KeyError:
        late.write("3")
        late.publish()
    rig.assert_sound(a=b"1", b=b"2", c=b"3")


def wrapped_in_text(value: ValueWriter) -> Any:
    return io.TextIOWrapper(value)


def wrapped_in_a_buffer(value: ValueWriter) -> Any:
    return io.BufferedWriter(value)


def wrapped_in_ours(value: ValueWriter) -> Any:
    return TextWriter(value)


def not_wrapped(value: ValueWriter) -> Any:
    return value


@pytest.mark.parametrize("wrap", [not_wrapped, wrapped_in_text, wrapped_in_a_buffer, wrapped_in_ours])
@pytest.mark.parametrize("in_a_circle", [False, True])
def test_a_handle_that_is_forgotten_publishes_nothing_and_warns(
    rig: StoreRig, wrap: Callable[[ValueWriter], Any], in_a_circle: bool
) -> None:
    rig.store["a"] = b"old"
    value = wrap(rig.store.open("a", "wb"))
    value.write("new" if isinstance(value, io.TextIOWrapper) else b"new")
    circle = [value]
    if in_a_circle:
        circle.append(circle)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        del value, circle
        gc.collect()
    assert [str(warning.message) for warning in heard if "'a' was not closed" in str(warning.message)]
    rig.assert_sound(a=b"old")


def test_a_program_that_ends_with_an_open_handle_stores_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    code = f"""
import io
from anthill_sync import Store
store = Store.create({str(tmp_path / "home")!r}, pad_size=16384)
store["a"] = b"old"
kept = [store.open("a", "wb"), store.open("a", "w"), io.TextIOWrapper(store.open("a", "wb"))]
kept[0].write(bytes(3 << 20))
kept[1].write("new")
kept[2].write("new")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == [
        *("config.json", "index.journal", "index.json", "key", "lock", "pads")
    ]
    with Store.open(tmp_path / "home") as store:
        assert (store["a"], store.pending()) == (b"old", [])


def test_closing_inside_a_callback_of_the_same_store_is_refused_and_the_old_value_stays(rig: StoreRig) -> None:
    rig.store["a"] = b"old"

    def hear(event: object) -> None:
        with rig.store.open("a", "w") as value:
            value.write("new")

    with pytest.raises(NestedMutation):
        rig.store.put("b", b"1", on_event=hear)
    rig.assert_sound(a=b"old")


def test_handles_of_a_closed_store_say_so(rig: StoreRig) -> None:
    rig.store["a"] = b"old"
    reading, writing = rig.store.open("a", "rb"), rig.store.open("a", "wb")
    rig.store.close()
    for use in (lambda: reading.read(1), lambda: writing.write(b"x"), lambda: rig.store.open("a", "rb")):
        with pytest.raises(StoreClosed):
            use()
    writing.discard()


@pytest.mark.parametrize("mode", ["rb", "wb"])
def test_a_closed_handle_refuses_everything_but_another_close(rig: StoreRig, mode: str) -> None:
    rig.store["a"] = b"old"
    handle: Any = rig.store.open("a", mode, 0)
    handle.close()
    handle.close()
    for use in (lambda: handle.seek(0), handle.tell, handle.__enter__):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_a_store_opened_read_only_refuses_a_writer_at_once(rig: StoreRig) -> None:
    with Store.open(rig.home, read_only=True) as store, pytest.raises(PermissionRefused):
        store.open("a", "wb")
    assert "a" not in rig.store


def test_a_value_can_be_copied_from_one_handle_to_another(rig: StoreRig) -> None:
    rig.store["a"] = chunks_of(1, 2, 3)
    with rig.store.open("a", "rb") as source, rig.store.open("b", "wb") as target:
        target.writelines(iter(lambda: source.read(5000), b""))
    rig.store.put("c", rig.store.open("a", "rb"))
    rig.assert_sound(b=chunks_of(1, 2, 3), c=chunks_of(1, 2, 3))
