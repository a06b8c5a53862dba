"""P6: canaries in key, names, values and passphrase turn up nowhere they do not belong: not on the wire or in pads, not in
logs, messages, tracebacks or core dumps, not in what other users see of a process."""

from __future__ import annotations

import logging
import pickle
import resource
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anthill_sync import Store, durable, keys
from anthill_sync.errors import AnthillError
from anthill_sync.keys import MasterKey, encode_key, read_key_file
from tests.cli_tools import LAUNCHER, PATIENCE, Gate, Shell, make_shell, spawn
from tests.support.servers import serve

from .canaries import Canary, Places, of_key, search
from .conftest import Begin
from .planted import Life, Plant
from .proxy import Plan, Proxy, nothing, storm
from .scenarios import PAD

PADS = 40  # whose seeds are looked for


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the disk's pace, waits, and the price of a guess at the passphrase."""
    monkeypatch.setattr(durable, "sync", lambda fd: None)
    monkeypatch.setattr(durable, "sync_folder", lambda path: None)
    monkeypatch.setattr(keys, "_SCRYPT", (4, 8, 1))
    monkeypatch.setenv("ANTHILL_BACKOFF_BASE", "0")


def canaries_of(plant: Plant, home: Path) -> dict[str, list[Canary]]:
    return {**plant.canaries(), "key": of_key(read_key_file(home / "key", plant.passphrase), range(PADS))}


def test_nothing_secret_reaches_a_network_a_log_or_a_message(
    tmp_path: Path, campaign: Begin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with (
        campaign("secrets", "a store on a server", short=550, long=550) as run,
        serve(tmp_path / "data", pad_size=PAD) as server,
        Proxy(server.url) as proxy,
    ):
        life = Life(Plant(tmp_path, run.random()), server, proxy, tmp_path / "data")
        life.store()
        life.ask()
        life.interrupt()
        life.leave_over()
        life.fail()
        life.damage()
        life.meet_bugs(monkeypatch)
        collect(life, caplog)
        search(run, life.places, canaries_of(life.plant, life.shell.home))


def collect(life: Life, caplog: pytest.LogCaptureFixture) -> None:
    """What is left when it is over."""
    home, places = life.shell.home, life.places
    assert life.proxy.wire is not None
    places.add("wire", bytes(life.proxy.wire))
    places.add_files("pads of the server", life.data)
    places.add_files("index and config", home, but=("key", "anthill.log"))
    places.add("wrapped key file", (home / "key").read_bytes())
    places.add("log file", life.log.read_bytes())
    places.add("logs of all libraries", caplog.text.encode())


def test_the_embedded_network_holds_nothing_readable_and_the_home_no_value(tmp_path: Path, campaign: Begin) -> None:
    """And a key file without a passphrase is the key: what is looked for can be found."""
    with campaign("secrets", "an embedded store", short=120, long=120) as run:
        plant, places, home = Plant(tmp_path, run.random()), Places(), tmp_path / "home"
        shell = make_shell(home)
        for use, name in plant.names.items():
            shell.ok("put", name, plant.file(use))
        shell.ok("rm", plant.names["old"])
        places.add_files("pads of the embedded network", home / "pads")
        places.add_files("index and config", home, but=("key", *(path.name for path in (home / "pads").rglob("*"))))
        places.add("plain key file", (home / "key").read_bytes())
        search(run, places, canaries_of(plant, home))


def test_errors_and_representations_show_no_secret(tmp_path: Path, campaign: Begin) -> None:
    """Of a Python program: also what crosses a process border, and what a collector of tracebacks takes from frames."""
    with campaign("secrets", "errors in Python", short=170, long=170) as run, serve(tmp_path / "data", pad_size=PAD) as server:
        plant, places, home = Plant(tmp_path, run.random()), Places(), tmp_path / "home"
        with Proxy(server.url) as proxy:
            Store.create(home, network=proxy.url, pad_size=PAD, passphrase=plant.passphrase).close()
            with Store.open(home, passphrase=plant.passphrase) as store:
                store.put(plant.names["large"], plant.file("large"))
                for error in errors_of(at_work(store, plant), proxy):
                    places.add("errors", told(error))
                    places.add("locals in tracebacks", with_locals(error))
                for error in errors_of(handed_over(store, plant), proxy):
                    places.add("errors", told(error))
                places.add("representations", represent(store))
        search(run, places, canaries_of(plant, home))


Failing = tuple[Plan, Callable[[], object]]


def at_work(store: Store, plant: Plant) -> list[Failing]:
    """Failures of an open store, which has the key in its memory."""
    name, small = plant.names, plant.values["small"]
    refused = storm(1, 10**6, "refused")
    return [
        (refused, lambda: store.put(name["lost"], plant.file("lost"))),
        (refused, lambda: store[name["large"]]),
        (refused, lambda: store.delete(name["large"])),
        (nothing, lambda: store["not there"]),
        (nothing, lambda: store.put("a//b", small)),
        (nothing, lambda: store.put(name["small"], small.hex())),  # type: ignore[arg-type]
        (nothing, lambda: store.put(name["small"], broken(small))),
        (nothing, lambda: store.put(name["small"], b"", attributes={"x": object()})),
        (nothing, lambda: pickle.dumps(store._session.pads.name(3))),
    ]


def handed_over(store: Store, plant: Plant) -> list[Failing]:
    """Failures of calls that are given a secret."""
    key = store._session.pads._key
    return [
        (nothing, lambda: Store.open(store.home, passphrase="wrong")),
        (nothing, lambda: Store.open(store.home)),
        (nothing, lambda: Store.create(store.home, passphrase=plant.passphrase)),
        (nothing, lambda: MasterKey(key.secret[:31])),
        (nothing, lambda: keys.decode_key(encode_key(key)[:-3], None, "a typo")),
        (nothing, lambda: keys.decode_key(encode_key(key).replace("-", "!"), None, "another")),
    ]


def broken(data: bytes) -> Iterator[bytes]:
    yield data
    raise ZeroDivisionError("a source that fails")


def errors_of(failing: list[Failing], proxy: Proxy) -> Iterator[Exception]:
    for plan, action in failing:
        proxy.reset(plan)
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is looked into
            yield error
        else:
            raise AssertionError("nothing failed")


def told(error: Exception) -> bytes:
    """What anybody may make of an error."""
    texts = [repr(error), str(error), repr(error.args), repr(vars(error)), *traceback.format_exception(error)]
    sent = pickle.dumps(error) if isinstance(error, AnthillError) else b""
    return "\n".join(texts).encode() + sent


def with_locals(error: Exception) -> bytes:
    """What a collector of tracebacks takes from the frames."""
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()).encode()


def represent(store: Store) -> bytes:
    """All objects that a program may print, by ``repr``."""
    session = store._session
    pads, key = session.pads, session.pads._key
    things: list[object] = [store, session, session.config, session.settings, session.journal, session.allocator, pads]
    things += [key, key.pad(0, 1), vars(key.pad(0, 1)), pads.sealer, session.network, vars(session.network)]
    return "\n".join(f"{thing!r} {thing!s} {type(thing)}" for thing in things).encode()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_other_users_see_no_secret_of_a_process_and_it_leaves_no_core(tmp_path: Path, campaign: Begin) -> None:
    """Command line, environment, limits, while it writes; ``-`` is how a value comes in without a file."""
    with campaign("secrets", "a process", short=60, long=60) as run:
        plant, places, home = Plant(tmp_path, run.random()), Places(), tmp_path / "home"
        words = ("--passphrase-file", tmp_path / "passphrase")
        Shell(home).ok("init", "--pad-size", "16KiB", *words)
        gate = Gate(tmp_path / "gate", ANTHILL_PASSPHRASE_FILE=str(tmp_path / "passphrase"))
        command = ("--home", home, "put", plant.names["large"], plant.file("large"))
        with spawn(*command, program=LAUNCHER, env=gate.env, preexec_fn=allow_cores) as process:
            seen = Path("/proc") / str(gate.wait())
            for name in ("cmdline", "environ", "status", "maps"):
                places.add("process", (seen / name).read_bytes())
            cores = [line.split() for line in (seen / "limits").read_text().splitlines() if "core file" in line]
            gate.open()
            assert process.wait(PATIENCE) == 0
        search(run, places, canaries_of(plant, home))
        with run.case("process: no core"):
            assert cores[0][4] == "0", cores


def allow_cores() -> None:
    """As on a machine where cores are collected."""
    resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
