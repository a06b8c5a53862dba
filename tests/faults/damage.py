"""What damage does to the files of a store, and a small store to do it to."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from anthill_sync import Store
from anthill_sync.errors import AnthillError

from .points import Crash, Points, installed
from .scenarios import CHUNK, ONE_THREAD, PAD, State, noise
from .witness import Witness

SECTORS = (512, 4096)  # bytes that a disk writes or loses at once
Allowed = dict[str, set[bytes]]  # key -> what may be read under it


@dataclass(frozen=True)
class Damage:
    """``data``: what is in the file ``name`` (relative to the home) afterwards, None: it is gone."""

    kind: str
    name: str
    data: bytes | None
    where: object = ""

    def __str__(self) -> str:
        return f"{self.kind} in {self.name} at {self.where}"


def flipped(name: str, data: bytes, bits: Iterable[int]) -> Iterator[Damage]:
    """One bit after the other, counted from the file's first."""
    for bit in bits:
        at, value = bit // 8, data[bit // 8] ^ 1 << bit % 8
        yield Damage("flipped bit", name, b"%b%c%b" % (data[:at], value, data[at + 1 :]), f"byte {at}, bit {bit % 8}")


def a_bit_of_each_byte(data: bytes, chance: random.Random) -> list[int]:
    return [8 * at + chance.randrange(8) for at in range(len(data))]


def some_bits(data: bytes, per_kib: int, chance: random.Random) -> list[int]:
    """``per_kib`` different bits of every KiB."""
    return [
        bit
        for start in range(0, 8 * len(data), 8192)
        for bit in chance.sample(range(start, min(start + 8192, 8 * len(data))), min(per_kib, 8 * len(data) - start))
    ]


def cut(name: str, data: bytes, lengths: Iterable[int]) -> Iterator[Damage]:
    for length in lengths:
        yield Damage("truncated", name, data[:length], f"{length} of {len(data)} bytes")


def zeroed(name: str, data: bytes) -> Iterator[Damage]:
    """Every sector of each size."""
    for size in SECTORS:
        for start in range(0, len(data), size):
            lost = min(size, len(data) - start)
            yield Damage(f"zeroed {size}", name, data[:start] + bytes(lost) + data[start + lost :], f"byte {start}")


def misplaced(name: str, data: bytes) -> Iterator[Damage]:
    """Lines that change places, come twice, or are lost."""
    lines = data.splitlines(keepends=True)
    for one, two in combinations(range(len(lines)), 2):
        changed = [*lines]
        changed[one], changed[two] = lines[two], lines[one]
        yield Damage("swapped lines", name, b"".join(changed), f"lines {one} and {two}")
    for at, line in enumerate(lines):
        yield Damage("doubled line", name, b"".join([*lines[:at], line, *lines[at:]]), f"line {at}")
        yield Damage("doubled line", name, data + line, f"line {at}, at the end")
        yield Damage("lost line", name, b"".join(lines[:at] + lines[at + 1 :]), f"line {at}")


def other(name: str, data: bytes, chance: random.Random) -> Iterator[Damage]:
    yield Damage("gone", name, None)
    yield Damage("grown", name, data + b"\n", "a line's end")
    yield Damage("grown", name, data + chance.randbytes(40), "noise")
    yield Damage("grown", name, data + bytes(4096), "zeros")
    yield Damage("doubled file", name, data + data)


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
    few = {"many/1": chance.randbytes(50), "many/2": chance.randbytes(500)}
    return chance.choice(
        [
            Act("put", lambda store: store.put("new", new), {"new": new}),
            Act("put small", lambda store: store.put("new", new[:200]), {"new": new[:200]}),
            Act("overwrite", lambda store: store.put(key, new), {key: new}),
            Act("put many", lambda store: store.put_many(few), {**few}),
            Act("remove", lambda store: store.delete(key), {key: None}),
            Act("rename", lambda store: store.rename(key, "moved"), {key: None, "moved": now[key]}, (key,)),
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
