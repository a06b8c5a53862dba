"""Homes that do not know of each other over one network: yesterday's over today's pads, a clone on another machine, two
stores made with one key and slot. Whoever writes is told (76) before anything is overwritten, nothing acknowledged is
lost for whom it was acknowledged to, and no salt comes twice."""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from anthill_sync import Store, creating, durable
from anthill_sync.errors import AnthillError, Damaged
from anthill_sync.keys import MasterKey, encode_key
from anthill_sync.networks.base import Network
from anthill_sync.server import PadServer
from tests.support import PATIENCE, FaultyNetwork
from tests.support.servers import serve

from .campaign import Campaign
from .examine import AGAIN, ANOTHER, Act, some_act
from .scenarios import CHUNK, ONE_THREAD, PAD, State, noise
from .test_weak_spots import in_thread, wait_until
from .witness import WatchedNetwork, Witness

Begin = Callable[..., AbstractContextManager[Campaign]]
TOLD = {AGAIN, ANOTHER}  # 75: a removal that is made, while old names are left on pads that are another's by now


@pytest.fixture(autouse=True)
def _no_power_loss(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "anthill_sync")
    monkeypatch.setattr(durable, "sync", lambda fd: None)
    monkeypatch.setattr(durable, "sync_folder", lambda path: None)


@dataclass
class Machine:
    """A home, and what was acknowledged to whoever uses it there. Since it is a copy, or was copied: ``touched`` are the
    keys it may have changed, ``origins`` tells of each value under which key it was known before, None: it is newer.
    ``left``: values that were taken away by what said (75) that the network still has their old names."""

    home: Path
    witness: Witness
    values: State = field(default_factory=dict)
    origins: dict[str, str | None] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    left: State = field(default_factory=dict)
    codes: list[int] = field(default_factory=list)  # of everything that was done

    @contextmanager
    def open(self) -> Iterator[tuple[Store, FaultyNetwork]]:
        """Its store, and the network below it."""
        between: list[FaultyNetwork] = []
        connect: Callable[..., Network] = vars(creating)["open_network"]

        def open_network(*args: object, **more: object) -> FaultyNetwork:
            between.append(FaultyNetwork(WatchedNetwork(connect(*args, **more), self.witness)))
            return between[0]

        vars(creating)["open_network"] = open_network
        try:
            store = Store.open(self.home, settings=ONE_THREAD)
        finally:
            vars(creating)["open_network"] = connect
        with store:
            yield store, between[0]

    def do(self, act: Act) -> int:
        """Do it, and judge how it ended; its exit code."""
        with self.open() as (store, _):
            return self.do_in(store, act)

    def do_in(self, store: Store, act: Act) -> int:
        self.touched |= act.aim.keys()
        try:
            act.run(store)
            self._done(act)
            self.codes.append(0)
        except AnthillError as error:
            self.codes.append(error.exit_code)
            if error.exit_code == AGAIN:
                gone = {key: self.values[key] for key, value in act.aim.items() if value is None and key in self.values}
                self._done(act)
                self.left.update(gone)
        assert self.codes[-1] in {0, *TOLD}, f"{act.name} ended with {self.codes[-1]}"
        return self.codes[-1]

    def _done(self, act: Act) -> None:
        origins = [self.origins.get(key) for key in act.needs]  # a rename leaves the blocks where they are
        for key, value in act.aim.items():
            self.values.pop(key, None)
            self.left.pop(key, None)
            self.origins[key] = None
            if value is not None:
                self.values[key] = value
                self.origins[key] = origins[0] if origins else None

    def copied_to(self, home: Path) -> Machine:
        shutil.copytree(self.home, home)
        self.touched, self.origins = set(), {key: key for key in self.values}
        return Machine(home, self.witness, dict(self.values), dict(self.origins), left=dict(self.left))

    def assert_whole(self, others: set[str]) -> None:
        """Everything is here. Only what both had, and others changed or took away since, may be reported as lost."""
        with self.open() as (store, _):
            assert sorted(store) == sorted(self.values)
            for key, value in self.values.items():
                try:
                    assert store[key] == value, f"wrong bytes under {key}"
                except Damaged:
                    if self.origins[key] not in others:
                        raise

    def assert_never_other_bytes(self) -> None:
        """What can be read is what was acknowledged here, and the rest is reported."""
        with self.open() as (store, _):
            for key in store:
                with suppress(Damaged):
                    assert store[key] == self.values.get(key), f"wrong bytes under {key}"


def put(key: str, value: bytes) -> Act:
    return Act(f"put {key}", lambda store: store.put(key, value), {key: value})


@dataclass
class Networks:
    """New networks of one kind."""

    kind: str
    folder: Path
    servers: list[PadServer] = field(default_factory=list)

    def new(self) -> str:
        """The URL of one more."""
        place = self.folder / f"pads{len(list(self.folder.glob('pads*')))}"
        place.mkdir(mode=0o700)
        if self.kind == "dir":
            return f"dir://{place}"
        self.servers.append(serve(place))
        return self.servers[-1].url


@pytest.fixture(params=["dir", "http"])
def networks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Networks]:
    made = Networks(request.param, tmp_path)
    yield made
    for server in made.servers:
        server.stop()


def new_machine(home: Path, url: str, key_file: Path | None = None, rewrite_limit: str = "8KiB") -> Machine:
    key_file = key_file or home.parent / f"{home.name}.key"
    if not key_file.exists():
        key_file.write_text(encode_key(MasterKey.generate()))
        key_file.chmod(0o600)
    Store.create(home, network=url, key_file=key_file, pad_size=PAD, settings={"rewrite_limit": rewrite_limit}).close()
    with Store.open(home) as store:
        return Machine(home, Witness(store._session.pads._key))


def go_on(machine: Machine, chance: random.Random, count: int, name: str) -> None:
    """Some puts and changes of this machine's own."""
    for number in range(count):
        size = chance.choice([300, 900, CHUNK, CHUNK + 500, 2 * CHUNK + 40])
        machine.do(put(f"{name}{chance.randrange(5)}", chance.randbytes(size)))
        if number % 2 and machine.values:
            machine.do(some_act(machine.values, chance))


def finish(machines: list[Machine]) -> None:
    """In the end each writes more than fits into any pad that nobody else has touched: at most one of them is not told
    by then; and what was acknowledged to any of them is there."""
    for machine in machines:
        machine.do(put("end", noise(str(machine.home), 12 * CHUNK)))
    for machine in machines:
        others = (each.touched for each in machines if each is not machine)
        machine.assert_whole(set().union(*others))
    assert not machines[0].witness.problems, machines[0].witness.problems


# -- a home put back from a backup


def test_yesterdays_home_over_todays_pads_is_told_before_it_overwrites(
    networks: Networks, tmp_path: Path, campaign: Begin
) -> None:
    with campaign("restored backup", f"yesterday, {networks.kind}", short=6, long=30) as run:
        for number in range(run.goal):
            with run.case("yesterday's home", number):
                chance = run.random("yesterday", number)
                today = new_machine(tmp_path / f"today{number}", networks.new())
                go_on(today, chance, 3, "a")
                yesterday = today.copied_to(tmp_path / f"yesterday{number}")
                go_on(today, chance, 1 + chance.randrange(4), "b")
                today.do(put("grown", noise("grown", 2 * CHUNK + 70)))
                go_on(yesterday, chance, 3, "c")
                finish([yesterday, today])
                assert ANOTHER in yesterday.codes
                way_out(yesterday, today)


def way_out(told: Machine, other: Machine) -> None:
    """``recover``: what only one of them changed is as that one has it, and the machine writes again."""
    before = {*told.values, *other.values} - {*told.touched, *other.touched}
    Store.recover(told.home, settings=ONE_THREAD)
    with told.open() as (store, _):
        found = {key: store[key] for key in store}
        for machine, rest in ((told, other), (other, told)):
            for key in {*before, *(machine.touched - rest.touched)}:
                wanted = machine.values.get(key)
                allowed = (wanted, machine.left.get(key, wanted))  # what a removal left on the network comes back
                assert found.get(key) in allowed, f"{key} is not as {machine.home.name} has it"
        assert store.check(read_data=True).problems == ()
        told.values = found
    assert told.do(put("after", noise("after", 3 * CHUNK))) == 0
    assert other.do(put("after", noise("other", 12 * CHUNK))) == ANOTHER


def test_a_value_that_one_home_renamed_outlives_its_removal_in_the_other(networks: Networks, tmp_path: Path) -> None:
    """The removal finds the other's image where the old name was, and frees no block under the new one."""
    today = new_machine(tmp_path / "today", networks.new())
    value = noise("value", 2 * CHUNK + 500)
    today.do(put("old", value))
    yesterday = today.copied_to(tmp_path / "yesterday")
    today.do(Act("rename", lambda store: store.rename("old", "new"), {"old": None, "new": value}))
    assert yesterday.do(Act("remove", lambda store: store.delete("old"), {"old": None})) == ANOTHER
    assert yesterday.do(put("more", noise("more", 3 * CHUNK))) == ANOTHER  # its chunks go onto no pad of the value's
    Store.recover(yesterday.home, settings=ONE_THREAD)
    with yesterday.open() as (store, _):
        assert dict(store) == {"new": value}
        store["more"] = b"2"
        assert store.check(read_data=True).problems == ()
        assert store._session.index().to_rewrite == set()
    assert not yesterday.witness.problems


REPLACING: dict[str, Callable[[Store], object]] = {
    "put": lambda store: store.put("old", noise("other", 12000)),
    "mv --force": lambda store: store.rename("small", "old", force=True),
}


@pytest.mark.parametrize("way", REPLACING)
def test_a_value_that_one_home_renamed_outlives_its_replacement_in_the_other(
    way: str, networks: Networks, tmp_path: Path
) -> None:
    """Also where what replaces it goes to a pad that the other home has not written: its old manifest is looked at."""
    today = new_machine(tmp_path / "today", networks.new(), rewrite_limit="16KiB")
    value = noise("value", 2 * CHUNK - 100)  # on the pad of its manifest is room for one more name, not for one with attributes
    today.do(put("old", value))
    with today.open() as (store, _):
        store.put("small", noise("small", 6000), attributes={"long": 1000 * "x"})
    yesterday = today.copied_to(tmp_path / "yesterday")
    today.do(Act("rename", lambda store: store.rename("old", "new"), {"old": None, "new": value}))
    with yesterday.open() as (store, _):
        with pytest.raises(AnthillError) as told:
            REPLACING[way](store)
        assert told.value.exit_code == ANOTHER
        assert store["old"] == value
        with suppress(AnthillError):
            store["more"] = noise("more", 3 * CHUNK)  # would take the pads of what was replaced
    with today.open() as (store, _):
        assert store["new"] == value
    assert not yesterday.witness.problems


# -- a home in two places


def test_two_copies_of_a_home_that_write_in_turn_are_told_and_keep_what_each_was_promised(
    networks: Networks, tmp_path: Path, campaign: Begin
) -> None:
    with campaign("restored backup", f"clones in turn, {networks.kind}", short=6, long=30) as run:
        for number in range(run.goal):
            with run.case("clones in turn", number):
                chance = run.random("clones", number)
                one = new_machine(tmp_path / f"one{number}", networks.new())
                go_on(one, chance, 2, "a")
                two = one.copied_to(tmp_path / f"two{number}")
                for turn in range(6):
                    go_on((one, two)[turn % 2], chance, 1 + chance.randrange(2), "bc"[turn % 2])
                finish([one, two])
                assert ANOTHER in one.codes + two.codes
                told, other = (one, two) if one.codes[-1] == ANOTHER else (two, one)
                way_out(told, other)


STEPS = [(operation, after) for operation in ("reserve", "read", "write", "confirm") for after in (False, True)]
ACTS: dict[str, Callable[[str], Act]] = {
    "a small value": lambda name: put(f"{name} small", noise(name, 800)),
    "chunks": lambda name: put(f"{name} large", noise(name, 2 * CHUNK + 900)),
    "an update": lambda name: put("both", noise(f"{name} both", 700)),
    "a removal": lambda name: Act("remove", lambda store: store.delete("both", ignore_missing=True), {"both": None}),
}


def at_the_same_time(one: Machine, two: Machine, name: str, operation: str, after: bool) -> bool:
    """``one`` is held up before (or after) its first call of this operation until ``two`` has done the same; False: it
    makes no such call."""
    with one.open() as (store, faulty):
        gate = faulty.hold(operation, after=after)
        first = in_thread(lambda: one.do_in(store, ACTS[name]("one")))
        wait_until(lambda: first.done() or bool(gate.held))
        two.do(ACTS[name]("two"))
        gate.open()
        first.result(PATIENCE)
        return bool(gate.held)


@pytest.mark.parametrize("name", ACTS)
def test_two_copies_of_a_home_that_write_at_the_same_time_are_told(
    name: str, networks: Networks, tmp_path: Path, campaign: Begin
) -> None:
    with campaign("restored backup", f"clones at the same time, {name}, {networks.kind}", short=8, long=8) as run:
        held = 0
        for number, (operation, after) in enumerate(STEPS):
            with run.case(f"held {'after' if after else 'before'} {operation}", name):
                one = new_machine(tmp_path / f"one{number}", networks.new())
                one.do(put("both", noise("both", 600)))
                one.do(put("kept", noise("kept", CHUNK + 400)))
                two = one.copied_to(tmp_path / f"two{number}")
                held += at_the_same_time(one, two, name, operation, after)
                finish([one, two])
                assert ANOTHER in one.codes + two.codes
        assert held >= 4, "hardly anything was held up"


@pytest.mark.parametrize("name", ACTS)
def test_a_home_copied_while_a_write_is_in_flight_may_lose_values_and_never_returns_other_bytes(
    name: str, networks: Networks, tmp_path: Path, campaign: Begin
) -> None:
    """The one thing that remains: both homes name the same pads as being written, with the same run id."""
    with campaign("restored backup", f"copied in flight, {name}, {networks.kind}", short=8, long=8) as run:
        for number, (operation, after) in enumerate(STEPS):
            with run.case(f"copied {'after' if after else 'before'} {operation}", name):
                one = new_machine(tmp_path / f"one{number}", networks.new())
                one.do(put("both", noise("both", 600)))
                with one.open() as (store, faulty):
                    gate = faulty.hold(operation, after=after)
                    first = in_thread(partial(one.do_in, store, ACTS[name]("one")))
                    wait_until(lambda first=first, gate=gate: first.done() or bool(gate.held))  # type: ignore[misc]
                    two = one.copied_to(tmp_path / f"two{number}")
                    gate.open()
                    first.result(PATIENCE)
                two.do(put("two", noise("two", CHUNK + 800)))
                two.do(ACTS[name]("two"))
                one.do(put("end", noise("end", 12 * CHUNK)))
                assert ANOTHER in one.codes + two.codes
                for machine in (one, two):
                    machine.assert_never_other_bytes()


# -- two stores that do not know that they are one


@pytest.mark.parametrize("together", [False, True], ids=["in turn", "together"])
def test_two_stores_of_one_key_and_slot_are_told_before_they_overwrite(
    together: bool, networks: Networks, tmp_path: Path, campaign: Begin
) -> None:
    part = f"one key, {'together' if together else 'in turn'}, {networks.kind}"
    with campaign("restored backup", part, short=8, long=16) as run:
        for number in range(run.goal):
            operation, after = STEPS[number % len(STEPS)]
            with run.case(f"held {'after' if after else 'before'} {operation}" if together else "in turn", number):
                url, key_file = networks.new(), tmp_path / f"key{number}"
                one = new_machine(tmp_path / f"one{number}", url, key_file)
                two = new_machine(tmp_path / f"two{number}", url, key_file)
                two.witness = one.witness
                name = list(ACTS)[number % 2]
                if together:
                    at_the_same_time(one, two, name, operation, after)
                else:
                    one.do(ACTS[name]("one"))
                    assert two.do(ACTS[name]("two")) == ANOTHER
                finish([one, two])
                assert ANOTHER in one.codes + two.codes
