"""A small store that is damaged again and again: what it says then, what is done to it, what it says after that."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from anthill_sync import Store
from anthill_sync.config import read_config
from anthill_sync.errors import AnthillError
from anthill_sync.keys import read_key_file

from .campaign import Campaign
from .damage import Damage
from .points import Crash, Points, installed
from .scenarios import CHUNK, ONE_THREAD, PAD, State, noise
from .witness import Witness

DAMAGED, MISSING, AGAIN, ANOTHER, WRONG_FORMAT = 65, 66, 75, 76, 78
Allowed = dict[str, set[bytes]]  # key -> what may be read under it


@dataclass
class Seen:
    """What a store said: its values that could be read, None when it refused as a whole, with the exit code."""

    values: State | None
    code: int = 0


@dataclass
class Subject:
    """A store at rest. ``now``: its values. ``ever``: for each key the bytes of every put that was completed."""

    home: Path
    passphrase: str | None = None
    now: State = field(default_factory=dict)
    ever: dict[str, set[bytes]] = field(default_factory=dict)
    versions: dict[int, bytes] = field(default_factory=dict)  # the value of every version there was
    files: dict[str, bytes] = field(default_factory=dict)

    def open(self) -> Store:
        return Store.open(self.home, passphrase=self.passphrase, settings=ONE_THREAD)

    def do(self, act: Callable[[Store], object], **values: bytes | None) -> None:
        """While it is built: one mutation, and the values that it gives to keys (None: it takes them away)."""
        with self.open() as store:
            act(store)
            for key, value in values.items():
                if value is None:
                    del self.now[key]
                else:
                    self.now[key] = value
                    self.ever.setdefault(key, set()).add(value)
                    self.versions[store.stat(key).version] = value

    def finish(self) -> Subject:
        """It is built: remember its files."""
        self.files = self.found()
        return self

    # -- damage

    def found(self) -> dict[str, bytes]:
        """All files now, but for the lock, whose content means nothing."""
        return {
            os.path.relpath(entry.path, self.home): Path(entry.path).read_bytes()
            for entry in walk(self.home)
            if entry.name != "lock"
        }

    def restore(self, found: dict[str, bytes]) -> None:
        """All files as they were; ``found`` is what there is now."""
        for name in found.keys() - self.files.keys():
            self.lay(name, None)
        for name, data in self.files.items():
            if found.get(name) != data:
                self.lay(name, data)

    def lay(self, name: str, data: bytes | None) -> None:
        path = self.home / name
        path.unlink(missing_ok=True)
        if data is not None:
            path.write_bytes(data)
            path.chmod(0o600)

    # -- what it says

    def look(self, codes: set[int], allowed: Allowed) -> Seen:
        """Read everything. Each error has one of the exit ``codes``, each value is one that ``allowed`` names."""
        try:
            with self.open() as store:
                return Seen(dict(readable(store, codes, allowed)))
        except AnthillError as error:
            check_code(error, codes)
            return Seen(None, error.exit_code)

    def allowed(self) -> Allowed:
        return {key: {*values} for key, values in self.ever.items()}


def walk(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """All files below; ``Path.rglob`` takes three times as long, and there are many cases."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from walk(entry.path)
            else:
                yield entry


def check_code(error: AnthillError, codes: set[int]) -> None:
    assert error.exit_code in codes, f"exit code {error.exit_code} ({type(error).__name__}: {error})"


def readable(store: Store, codes: set[int], allowed: Allowed) -> Iterator[tuple[str, bytes]]:
    """Every key whose value can be read."""
    for key in store:
        try:
            value = store[key]
        except AnthillError as error:
            check_code(error, codes)
            continue
        assert value in allowed.get(key, ()), f"wrong bytes under {key}"
        yield key, value


# -- the store that is damaged


def build(home: Path, passphrase: str | None = None) -> Subject:
    """A store in whose index and pads there is one of everything, in few bytes."""
    with Store.create(home, pad_size=PAD, passphrase=passphrase, settings={**ONE_THREAD, "rewrite_limit": "12KiB"}):
        subject = Subject(home, passphrase)
    small = {f"s{number}": noise(f"small {number}", 90 + number) for number in range(4)}
    subject.do(lambda store: store.put_many(small), **small)
    large = noise("large", 2 * CHUNK + 300)
    subject.do(lambda store: store.put("large", large, attributes={"mode": 0o640}), large=large)
    gone = noise("gone", CHUNK + 60)
    subject.do(lambda store: store.put("gone", gone), gone=gone)
    subject.do(lambda store: store.put("s0", b"newer"), s0=b"newer")
    interrupt(subject)
    subject.do(lambda store: store.delete("gone"), gone=None)
    return subject


def go_on(subject: Subject) -> Subject:
    """Some more, for the journal after a checkpoint."""
    changed = subject.now["large"][:CHUNK] + noise("changed", CHUNK)
    subject.do(lambda store: store.put("large", changed), large=changed)
    subject.do(lambda store: store.rename("s1", "renamed"), s1=None, renamed=subject.now["s1"])
    subject.do(lambda store: store.put("empty", b""), empty=b"")
    subject.do(lambda store: store.reserve(1))
    subject.do(lambda store: store.delete("s2"), s2=None)
    subject.do(lambda store: store.put("s3", b"last"), s3=b"last")
    return subject


def interrupt(subject: Subject) -> None:
    """A put of which the first chunk is committed when the program crashes."""
    with installed(Points(2, only="network.write|before")), suppress(Crash), subject.open() as store:
        store.put("pending", noise("pending", 2 * CHUNK + 9))
    with subject.open() as store:
        assert [(each.key, each.done) for each in store.pending()] == [("pending", 1)]


# -- what is done to a damaged store


@dataclass(frozen=True)
class Act:
    """``aim``: what the keys it changes have once it is done. ``needs``: keys whose values it carries over unread."""

    name: str
    run: Callable[[Store], object]
    aim: dict[str, bytes | None]
    needs: tuple[str, ...] = ()


def some_act(now: State, chance: random.Random) -> Act:
    """A put, mostly; and what else writes."""
    new, key = chance.randbytes(CHUNK + 300), chance.choice(sorted(now))
    moved = f"{key}-moved"
    few = {"many/1": chance.randbytes(50), "many/2": chance.randbytes(500)}
    return chance.choice(
        [
            Act("put", lambda store: store.put("new", new), {"new": new}),
            Act("put small", lambda store: store.put("new", new[:200]), {"new": new[:200]}),
            Act("overwrite", lambda store: store.put(key, new), {key: new}),
            Act("put many", lambda store: store.put_many(few), {**few}),
            Act("remove", lambda store: store.delete(key), {key: None}),
            Act("rename", lambda store: store.rename(key, moved, force=True), {key: None, moved: now[key]}, (key,)),
            Act("trim", lambda store: store.trim(), {}),
            Act("abandon", lambda store: store.abandon(), {}),
        ]
    )


def do(subject: Subject, act: Act, witness: Witness, codes: set[int]) -> int:
    """Do it, with the witness between store and network; its exit code."""
    before = len(witness.problems)
    try:
        with witness.watching(), subject.open() as store:
            act.run(store)
        code = 0
    except AnthillError as error:
        check_code(error, codes)
        code = error.exit_code
    assert not witness.problems[before:], witness.problems[before:]
    return code


# -- the whole of it


Expect = Callable[[Damage, Seen], State | None]


@dataclass
class Examiner:
    """Damages one subject again and again. ``codes``: exit codes that may come. ``stopped``: by exit code, how often what
    was done to the store did not end well."""

    run: Campaign
    subject: Subject
    codes: set[int]
    stopped: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        key = read_key_file(self.subject.home / "key", self.subject.passphrase)
        self.witness = Witness(key, read_config(self.subject.home).slot)

    def examine(self, damages: Iterable[Damage], expect: Expect | None = None, part: str = "") -> None:
        """``expect``: the values that there may be at most, when the store does not refuse; it also judges what was seen.
        None: all of them."""
        for number, damage in enumerate(damages):
            with self.run.case(f"{part}: {damage.kind}" if part else damage.kind, damage):
                self._examine(damage, expect, self.run.random(part, number))

    def _examine(self, damage: Damage, expect: Expect | None, chance: random.Random) -> None:
        for name, data in damage.files.items():
            self.subject.lay(name, data)
        try:
            seen = self.subject.look(self.codes, self.subject.allowed())
            possible = expect(damage, seen) if expect else self.subject.now
            if seen.values is None:
                self._assert_refused(damage, chance)
            else:
                assert possible is not None, "the damage was not noticed"
                assert seen.values.items() <= possible.items(), "a value of another state"
                self._act(damage, seen.values, chance)
        finally:
            self.subject.restore(self.subject.found())

    def _assert_refused(self, damage: Damage, chance: random.Random) -> None:
        """Whatever is done to it, and nothing is written."""
        act = some_act(self.subject.now, chance)
        assert do(self.subject, act, self.witness, self.codes), f"{act.name} was not refused"
        damaged = {**self.subject.files, **damage.files}
        assert self.subject.found() == {name: data for name, data in damaged.items() if data is not None}

    def _act(self, damage: Damage, values: State, chance: random.Random) -> None:
        """Do something to a store that opened, and see what it did to the rest."""
        act = some_act({**self.subject.now, **values}, chance)
        code = do(self.subject, act, self.witness, self.codes | {MISSING, AGAIN})
        self.stopped[code] += 1
        allowed = self.subject.allowed()
        for key, value in act.aim.items():
            allowed.setdefault(key, set()).update([] if value is None else [value])
        self._assert_kept(values, act, code, allowed)
        if not any(name.startswith("index.") for name in damage.files):
            self._assert_healed(damage, act, allowed)

    def _assert_kept(self, before: State, act: Act, code: int, allowed: Allowed) -> None:
        """What could be read still can, and what was done is done."""
        after = self.subject.look(self.codes, allowed).values
        assert after is not None, f"{act.name} made the store unreadable"
        lost = [key for key, value in before.items() if key not in act.aim and after.get(key) != value]
        assert not lost, f"{act.name} made {lost} unreadable"
        if code == 0 and all(key in before for key in act.needs):
            assert {key: after.get(key) for key in act.aim} == act.aim, f"{act.name} ended well and is not done"

    def _assert_healed(self, damage: Damage, act: Act, allowed: Allowed) -> None:
        """With the files as they were, everything is as it was, but for what was done."""
        found = self.subject.found()
        for name, data in damage.files.items():
            if found.get(name) == data:
                self.subject.lay(name, self.subject.files.get(name))
        values = self.subject.look(set(), allowed).values
        assert values is not None
        lost = [key for key, value in self.subject.now.items() if key not in act.aim and values.get(key) != value]
        assert not lost, f"{lost} are lost after {act.name} on the damaged store"
