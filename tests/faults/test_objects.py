"""Whole stores on object stores: over a network that loses, cuts, doubles and delays; ended at any moment; killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import Store, creating
from anthill_sync.errors import AnthillError, PutFailed
from anthill_sync.networks import objects
from anthill_sync.networks.object_calls import Bucket
from anthill_sync.settings import Settings
from tests.cli_tools import Shell, environment, spawn
from tests.support.objects import KEYS, STRONG, local_objects, moto

from .http_scenarios import PAD, PATIENT, QUICK, SCENARIOS, Scenario, check, noise
from .proxy import Asked, Plan, Proxy, nothing, seeded, storm
from .scenarios import SCENARIOS as ACTS
from .scenarios import Scenario as Act
from .test_crash_points import Prepare, assert_survived, committed, copy, crash, prepared, spread

__all__ = ["prepared"]

WEAK = ("create", "metadata", "ranges")  # as Swift: no conditional replacement, and eventual
KINDS = {"strong": STRONG, "weak": WEAK, "bare": ()}
SHORT = 8  # points of a crash per scenario in the short form, spread evenly


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy(moto().endpoint) as running:
        yield running


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(objects, "probe", lambda bucket, settings: KINDS[request.param])
    url = f"s3://{moto().bucket()}/team/pads?endpoint={proxy.url}"
    with Store.create(tmp_path / "home", network=url, pad_size=PAD, settings=QUICK) as made:
        proxy.reset(nothing)
        yield made


# -- faults of the network


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_store_on_objects_comes_through_every_fault_that_passes(store: Store, proxy: Proxy, scenario: Scenario) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    plan = seeded(seed, 0.2)
    proxy.reset(lambda asked: "lost" if asked.number == 3 else plan(asked))  # so that none goes without
    expected = scenario(store, seed)
    assert proxy.met.total() > 0
    check(store, expected)
    proxy.reset(nothing)
    with Store.open(store.home) as again:
        check(again, expected)


@pytest.mark.parametrize("status", ["429", "503", "500"])
def test_a_storm_of_refusals_is_waited_out(store: Store, proxy: Proxy, status: str) -> None:
    data = os.urandom(30 * PAD)
    proxy.reset(storm(10, 40, status))
    with Store.open(store.home, settings=PATIENT) as patient:
        patient.put("storm", data)
    assert proxy.met[status] > 0
    check(store, {"storm": data})


def test_a_store_that_never_recovers_ends_the_put_and_it_resumes(store: Store, proxy: Proxy) -> None:
    data = os.urandom(40 * PAD)
    proxy.reset(storm(30, 10**6, "503"))
    with pytest.raises(PutFailed) as caught:
        store.put("k", data)
    assert (caught.value.exit_code, caught.value.context["resume"]) == (75, True)
    done = store.pending()[0].done
    proxy.reset(nothing)
    sent = store.put("k", data).transfer
    assert sent is not None
    assert sent.pads_written <= 40 + 4 - done
    check(store, {"k": data})


# -- other writers


def test_another_writer_on_our_objects_ends_with_76(store: Store, tmp_path: Path) -> None:
    store["small"] = b"1"
    shutil.copytree(store.home, tmp_path / "copy")
    with Store.open(tmp_path / "copy") as theirs:
        theirs["small"] = b"theirs"
    with pytest.raises(AnthillError) as caught:
        store["small"] = b"ours"
    assert caught.value.exit_code == 76


def test_an_older_object_than_this_store_left_ends_with_76(store: Store, tmp_path: Path) -> None:
    store["small"] = b"1"
    shutil.copytree(store.home, tmp_path / "copy")
    store["small"] = b"2"
    with Store.open(tmp_path / "copy") as older, pytest.raises(AnthillError) as caught:
        older["other"] = b"3"
    assert caught.value.exit_code == 76


def test_a_key_with_data_in_the_bucket_makes_no_second_store_but_in_another_slot(store: Store, tmp_path: Path) -> None:
    store["k"] = b"v"
    with pytest.raises(AnthillError, match="--slot 1") as caught:
        Store.create(tmp_path / "second", network=store.network_url, key_file=store.key_path, pad_size=PAD)
    assert caught.value.exit_code == 73
    shutil.rmtree(tmp_path / "second")
    with Store.create(tmp_path / "second", network=store.network_url, key_file=store.key_path, slot=1, pad_size=PAD) as other:
        other["k"] = b"w"
        assert (other["k"], store["k"]) == (b"w", b"v")


def test_two_homes_that_a_store_lets_create_one_pad_are_told_before_they_replace_it(
    tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Swift does for requests of the same moment: whoever began last wins, and both hear that they made the object."""
    monkeypatch.setattr(objects, "probe", lambda bucket, settings: WEAK)
    url = f"s3://{moto().bucket()}/team/pads?endpoint={proxy.url}"
    Store.create(tmp_path / "home", network=url, pad_size=PAD, settings=QUICK).close()
    shutil.copytree(tmp_path / "home", tmp_path / "copy")
    with Store.open(tmp_path / "home") as ours, Store.open(tmp_path / "copy") as theirs:
        ours["ours"] = b"1"
        with monkeypatch.context() as patch:
            patch.setattr(Bucket, "create", Bucket.replace)
            theirs["theirs"] = b"2"
        assert told(lambda: ours.put("more", b"3")) == 76
        assert told(lambda: ours["ours"]) == 65
        assert [problem.kind for problem in ours.check(read_data=True).problems] == ["block", "pad"]
        assert (theirs["theirs"], theirs.check(read_data=True).problems) == (b"2", ())
    with Store.open(tmp_path / "home") as later:
        assert told(lambda: later.put("more", b"3")) in (65, 76)


def told(action: Callable[[], object]) -> int:
    """The exit code of what it raises."""
    with pytest.raises(AnthillError) as caught:
        action()
    return caught.value.exit_code


# -- crashes


@pytest.fixture
def on_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores in the embedded network keep objects there instead, in obstore's folder store, so a home can be copied."""

    def opened(
        url: str, *, pad_size: int, base: Path, settings: Settings, facts: Mapping[str, Any] | None = None
    ) -> objects.ObjectNetwork:
        return local_objects(base / "pads", pad_size)[0]

    monkeypatch.setitem(vars(creating), "open_network", opened)


@pytest.mark.usefixtures("on_folders")
@pytest.mark.parametrize("scenario", ACTS, ids=lambda scenario: scenario.name)
def test_a_crash_leaves_old_or_new_on_objects_too(scenario: Act, prepared: Prepare, tmp_path: Path, long_run: bool) -> None:
    whole = prepared(scenario, 1)
    sent_before = committed(whole.template)
    for at in spread(len(whole.points), len(whole.points) if long_run else SHORT):
        home = copy(whole.template, tmp_path / "home")
        points = crash(home, scenario, at, 1)
        try:
            assert_survived(home, scenario, whole, sent_before, 1)
        except Exception as error:
            raise AssertionError(f"after a crash at point {at} of {len(whole.points)}, {points.hit}") from error


def test_a_killed_put_leaves_the_old_value_and_the_same_again_finishes(proxy: Proxy, tmp_path: Path, long_run: bool) -> None:
    """The put is killed at one of its requests, of which it makes about 70; what it had sent arrives or not."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    chance, shell, source, old = random.Random(seed), Shell(tmp_path / "home"), tmp_path / "source", b"old"
    shell.ok("init", "--pad-size", "16KiB", "--network", f"s3://{moto().bucket()}?endpoint={proxy.url}")
    shell.ok("put", "k", "-", stdin=old)
    for kill in range(60 if long_run else 6):
        source.write_bytes(noise(seed + kill, 60 * PAD))
        with spawn("--home", shell.home, "put", "k", source, env=environment(**KEYS)) as process:
            proxy.reset(killing(process, 1 + chance.randrange(60)))
        assert process.returncode == -signal.SIGKILL, "it was over before"
        proxy.reset(nothing)
        assert shell.ok("get", "k").data == old
        shell.ok("put", "k", source)
        assert shell.ok("get", "k").data == source.read_bytes()
        shell.ok("check", "--read-data")
        old = source.read_bytes()


def killing(process: subprocess.Popen[bytes], number: int) -> Plan:
    """A plan that kills the process at this request, and passes it on."""

    def plan(asked: Asked) -> None:
        if asked.number == number:
            process.send_signal(signal.SIGKILL)

    return plan
