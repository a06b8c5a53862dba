"""``max_duration``, rate limits and threads of a whole store: what is bounded stays so, and goes on another time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import Store
from anthill_sync.errors import InvalidArgument, OutOfTime, PutFailed
from anthill_sync.events import StoreComplete
from anthill_sync.networks.limiting import LimitedNetwork, limited
from tests.cli_tools import Shell, make_shell
from tests.store_tools import CHUNK, StoreRig, chunks_of, permanent
from tests.support import PATIENCE

pytest_plugins = ["tests.store_fixtures"]

Background = Callable[[Callable[[], Any]], "Future[Any]"]
DATA = chunks_of(*range(60))


# -- time


def time_is_over(rig: StoreRig) -> threading.Event:
    """From now on, for the put that is running; its stop event."""
    (operation,) = rig.session._operations
    operation.ends = 0.0
    return operation.stop


def test_when_the_time_is_over_the_pads_on_their_way_are_finished_and_nothing_new_begins(
    each: StoreRig, background: Background
) -> None:
    each.store["a"] = b"old"
    written = each.faulty.done["write"]
    gate = each.faulty.hold("write")
    put = background(lambda: each.store.put("a", DATA, max_duration=3600))
    gate.wait_for(20)
    assert time_is_over(each).wait(PATIENCE)
    gate.open()
    with pytest.raises(OutOfTime) as caught:
        put.result(PATIENCE)
    assert caught.value.exit_code == 75
    assert (caught.value.context["resume"], caught.value.context["done"], caught.value.context["total"]) == (True, 20, 60)
    assert each.faulty.done["write"] - written == 20
    each.mend()
    each.assert_sound(a=b"old")
    with each.counting() as calls:
        each.store.put("a", DATA)
    assert calls["write"] == 41, "the other forty and the manifest"
    each.assert_sound(a=DATA)


def test_no_time_at_all_sends_nothing(rig: StoreRig) -> None:
    rig.store["a"] = b"old"
    with rig.counting() as calls, pytest.raises(OutOfTime):
        rig.store.put("a", DATA, max_duration=0)
    assert calls["write"] == 0
    rig.assert_sound(a=b"old")
    with pytest.raises(InvalidArgument):
        rig.store.put("a", DATA, max_duration=-1)
    rig.store.put("a", DATA, max_duration=PATIENCE * 10)
    rig.assert_sound(a=DATA)


def test_values_that_were_published_in_time_stay_and_the_others_go_on_later(rig: StoreRig) -> None:
    over = threading.Event()

    def hear(event: object) -> None:
        if isinstance(event, StoreComplete):
            time_is_over(rig)
            over.set()

    rig.faulty.before("write", lambda seen: seen.image is None or len(seen.image.data) < CHUNK or over.wait(PATIENCE))
    items = {"a": b"small", "b": DATA}
    with pytest.raises(OutOfTime) as caught:
        rig.store.put_many(items, on_event=hear, max_duration=3600)
    assert set(caught.value.published) == {"a"}
    rig.mend()
    rig.assert_sound(a=b"small")
    assert "b" not in rig.store
    assert set(rig.store.put_many(items)) == {"a", "b"}
    rig.assert_sound(a=b"small", b=DATA)


def test_a_source_that_gives_nothing_does_not_keep_a_put_beyond_its_time(rig: StoreRig) -> None:
    def silent() -> Iterator[bytes]:
        yield chunks_of(1, 2, 3)
        while True:
            threading.Event().wait(0.01)
            yield b""

    with pytest.raises(OutOfTime):
        rig.store.put("a", silent(), max_duration=0.1)
    rig.assert_sound()
    assert "a" not in rig.store


def test_a_resume_has_a_time_too(rig: StoreRig, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    rig.faulty.fail("write", permanent, skip=5)
    with pytest.raises(PutFailed):
        rig.store.put("a", tmp_path / "file")
    rig.mend()
    with pytest.raises(OutOfTime):
        rig.store.resume(max_duration=0)
    assert [pending.key for pending in rig.store.pending()] == ["a"]
    assert [entry.key for entry in rig.store.resume(max_duration=3600).entries] == ["a"]
    rig.assert_sound(a=DATA)


# -- rates and threads, from settings and options


def test_rates_are_settings_of_a_store(tmp_path: Path) -> None:
    with Store.create(tmp_path / "home", settings={"limit_upload": "1MiB"}) as store:
        assert isinstance(store._session.network, LimitedNetwork)
    with Store.open(tmp_path / "home", settings={"limit_upload": "08:00,1KiB", "limit_download": "off"}) as store:
        assert (store.settings.limit_upload, store.settings.limit_download) == ("1024", "off")


def test_a_put_that_waits_for_its_rate_can_be_interrupted_and_resumed(rigs: Callable[..., StoreRig]) -> None:
    rig = rigs()
    settings = rig.session.settings.with_values({"limit_upload": "50KiB"}, "a test")
    rig.session.pads.network = limited(rig.session.network, settings)
    with pytest.raises(OutOfTime):
        rig.store.put("a", DATA, max_duration=0.5)
    assert 1 <= rig.faulty.done["write"] <= 6, "at 50 KiB a second, 16 KiB each"
    rig.session.pads.network = rig.session.network
    rig.reopen()
    rig.store.put("a", DATA)
    rig.assert_sound(a=DATA)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return make_shell(tmp_path / "home")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(DATA)
    return tmp_path / "file"


def test_the_command_stops_in_time_with_75_and_the_next_one_goes_on(shell: Shell, file: Path) -> None:
    failed = shell("put", "a", file, "--max-duration", "0s", "--json")
    assert (failed.code, failed.error["code"], failed.error["resume"]) == (75, 75, True)
    assert shell("put", "-r", "tree", file.parent, "--max-duration", "0s").code == 75
    shell.ok("put", "a", file, "--max-duration", "1h30m")
    assert shell.ok("get", "a").data == DATA
    shell.ok("resume", "--max-duration", "1h")


def test_the_command_keeps_its_rates(shell: Shell, file: Path, tmp_path: Path) -> None:
    """At 1 MiB a second 900 KiB take most of a second; at none, hardly any."""
    slow = shell.ok("put", "a", file, "--limit-upload", "1MiB", "--json").json["seconds"]
    fast = shell.ok("put", "b", file, "--limit-upload", "00:00,off", "--json").json["seconds"]
    assert slow > 0.8
    slow = shell.ok("get", "a", tmp_path / "copy", "--limit-download", "1MiB/s", "--json").json["seconds"]
    assert slow > 0.8
    assert fast > 0
    assert (tmp_path / "copy").read_bytes() == DATA


def test_threads_can_be_fewer(shell: Shell, file: Path) -> None:
    seen: list[int] = []
    shell.ok("put", "a", file, "--threads", "2")
    with Store.open(shell.home, settings=dict.fromkeys(("reserve_threads", "upload_threads", "download_threads"), 2)) as store:
        store.get_into("a", file.with_name("copy"), on_progress=lambda done, total: seen.append(len(ours("download"))))
    assert max(seen) <= 2


def ours(kind: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(f"anthill-{kind}-")]


@pytest.mark.parametrize(
    "arguments",
    [
        ("put", "a", "-", "--limit-upload", "fast"),
        ("put", "a", "-", "--limit-upload", "0"),
        ("put", "a", "-", "--max-duration", "6"),
        ("put", "a", "-", "--threads", "0"),
        ("get", "a", "--limit-download", "08:00"),
        ("resume", "--max-duration", "x"),
    ],
)
def test_a_wrong_bound_is_said_before_anything_is_done(shell: Shell, arguments: tuple[str, ...]) -> None:
    assert shell(*arguments, stdin=b"v").code == 64
    assert shell.ok("ls").out == ""
