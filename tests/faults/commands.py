"""Every command of the program, a store to run it in, and how it ends where something is missing."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from anthill_sync import Store

from .scenarios import CHUNK, LARGE, OLD, PAD, SMALL, crash_at, noise
from .test_crash_points import content

TREE = ("tree/a", "tree/b")
Codes = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """A command line ("@x" is the file x beside the home), and how it ends: without stdout, where nothing may be
    written, and without a thread."""

    words: str
    silent: int = 0
    read_only: Codes = (77,)
    alone: Codes = (0,)


def shows(words: str) -> Case:
    """It only prints, so all it needs is somewhere to print to."""
    return Case(words, silent=74, read_only=(0,))


CASES = [
    shows("ls"),
    shows("ls -l --json"),
    shows("stat k"),
    shows("stat k --json"),
    shows("usage"),
    shows("usage --json"),
    shows("config"),
    Case("config attempts 4", read_only=(73,)),
    Case("check", read_only=(0,)),
    Case("check --read-data --json", silent=74, read_only=(0,)),
    Case("drill", read_only=(0,)),
    Case("drill --values 1 --json", silent=74, read_only=(0,)),
    Case("get k", silent=74, read_only=(0,)),
    shows("get small"),
    Case("get k @out", read_only=(0,)),
    Case("get k @out --json", silent=74, read_only=(0,)),
    Case("get -r tree @tree-out", read_only=(0,), alone=(75,)),
    Case("put k @large"),
    Case("put new @large --json", silent=74),
    Case("put -r files @files"),
    Case("put k @large --if-absent", silent=3, read_only=(77,), alone=(3,)),
    Case("mv k moved"),
    Case("rm k"),
    Case("rm -r tree --json", silent=74),
    Case("reserve 2"),
    Case("trim"),
    Case("resume"),
    Case("abandon"),
    Case("repair", read_only=(77,)),
    Case("repair --json", silent=74, read_only=(77,)),
    Case("recover", read_only=(77,)),
    Case("init", silent=73, read_only=(73,), alone=(73,)),
    shows("--version"),
    shows("completion bash"),
    Case("nonsense", silent=64, read_only=(64,), alone=(64,)),
]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with values, a removed one, and an interrupted put."""
    folder = tmp_path_factory.mktemp("template")
    (folder / "large").write_bytes(LARGE)
    (folder / "files").mkdir()
    (folder / "files" / "one").write_bytes(SMALL)
    with Store.create(folder / "home", pad_size=PAD) as store:
        store.put_many({"k": OLD, "small": SMALL, **{key: noise(key, 900) for key in TREE}})
        store.put("gone", noise("gone", 2 * CHUNK))
        store.delete("gone")
    crash_at(folder / "home", lambda store: store.put("interrupted", folder / "large"), "network.write|before", 3)
    return folder


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    place = tmp_path / "place"
    shutil.copytree(template, place, symlinks=True)
    return place


def words_of(case: Case, place: Path) -> list[str]:
    return ["--home", str(place / "home"), *(str(place / word[1:]) if word[0] == "@" else word for word in case.words.split())]


def assert_whole(place: Path) -> None:
    """Old or new, and nothing lies about."""
    found = content(place / "home")
    for key, allowed in (
        ("k", (OLD, LARGE, None)),
        ("interrupted", (LARGE, None)),
        ("new", (LARGE, None)),
        ("moved", (OLD, None)),
        ("small", (SMALL,)),
    ):
        assert found.get(key) in allowed, key
    assert not [path for path in place.rglob("*") if ".anthill-" in path.name or path.suffix == ".new"]
    out = place / "out"
    assert not out.exists() or out.read_bytes() == OLD
