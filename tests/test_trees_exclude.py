"""``--exclude``: patterns mean what git makes of them."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from anthill_sync.errors import InvalidArgument, SourceNotFound
from anthill_sync.trees import Found, scan
from anthill_sync.trees_exclude import exclusion

FILES = [
    "a.o",
    "b.c",
    "#odd",
    "build/x.o",
    "build/deep/y",
    "src/a.o",
    "src/keep.o",
    "src/build/z",
    "src/.hidden",
    "top",
    "sub/top",
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "tree"


def kept(tree: Path, *patterns: str, files: tuple[Path, ...] = ()) -> set[str]:
    things = scan(tree, "", excluded=exclusion(patterns, files))
    return {thing.key for thing in things if isinstance(thing, Found)}


def test_without_patterns_everything_is_found(tree: Path) -> None:
    assert exclusion([], []) is None
    assert kept(tree) == set(FILES)


@pytest.mark.parametrize(
    ("patterns", "gone"),
    [
        (["*.o"], {"a.o", "build/x.o", "src/a.o", "src/keep.o"}),
        (["*.o", "!keep.o"], {"a.o", "build/x.o", "src/a.o"}),
        (["build/"], {"build/x.o", "build/deep/y", "src/build/z"}),
        (["build/", "!build/x.o"], {"build/x.o", "build/deep/y", "src/build/z"}),
        (["/build"], {"build/x.o", "build/deep/y"}),
        (["/top"], {"top"}),
        (["top/"], set()),
        (["src/**/z"], {"src/build/z"}),
        (["# a remark", "", "\\#odd"], {"#odd"}),
        ([".*"], {"src/.hidden"}),
    ],
)
def test_patterns_are_those_of_a_gitignore_file(tree: Path, patterns: list[str], gone: set[str]) -> None:
    assert set(FILES) - kept(tree, *patterns) == gone


NAMES = ["keep.o", "x.o", "q", "ab", "b.c", "b*", "]", "-", "sp", "#x", "[a]"]
PARTS = [
    *("a", "b", "build", "src", "deep", "keep.o", "x.o", "#x", "sp ", "\\a", "b\\*", "*", "**", "***", "?", "*.o", "*e*"),
    *("[ab]*", "[!a]", "[^a-k]*", "[[:alpha:]]", "[a-c]?", "[]a]", "[z-a]", "[b-]"),
]


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git to compare with")
def test_random_patterns_leave_what_git_leaves(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    for round_number in range(40):
        tree = tmp_path / f"tree{round_number}"
        for _ in range(25):
            path = tree.joinpath(*chance.choices(["a", "b", "build", "src", "deep"], k=chance.randrange(4)), "dir")
            path.mkdir(parents=True, exist_ok=True)
            path.parent.joinpath(chance.choice(NAMES)).touch()
        lines = []
        for _ in range(chance.randrange(1, 6)):
            body = "/".join(chance.choices(PARTS, k=chance.randrange(1, 4)))
            lines.append(chance.choice(["", "", "!"]) + chance.choice(["", "/"]) + body + chance.choice(["", "", "/"]))
        ignored = tmp_path / f"patterns{round_number}"
        ignored.write_text("\n".join(lines))
        git = ["git", "-C", str(tree)]
        subprocess.run([*git, "init", "-q"], env=environment, check=True)
        command = [*git, "ls-files", "--others", "-z", f"--exclude-from={ignored}"]
        listed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        things = scan(tree, "", excluded=exclusion([], [ignored]))
        files = {t.key for t in things if isinstance(t, Found) and t.attributes["kind"] == "file" and ".git/" not in t.key}
        assert files == set(listed.split("\0")) - {""}, lines


def test_a_directory_left_without_anything_is_empty(tree: Path) -> None:
    assert "build/deep" in kept(tree, "y")
    assert kept(tree, "*", "!sub/", "!src/") == {"src", "sub"}


def test_an_excluded_directory_is_not_even_looked_into(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[bytes] = []
    scandir = os.scandir

    def watched(path: bytes) -> object:
        looked.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", watched)
    kept(tree, "build/")
    assert sorted(os.path.basename(path) for path in looked) == [b"src", b"sub", b"tree"]


def test_names_that_are_no_text_are_matched_too(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff.o", "wb"):
        pass
    assert kept(tmp_path, "*.o") == set()


def test_any_text_is_a_pattern_or_refused() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    refused = 0
    for _ in range(3000):
        text = "".join(chance.choices("a]b[-!^\\*?/:# .(){}|+$\n", k=chance.randrange(12)))
        try:
            excluded = exclusion([text], [])
        except InvalidArgument:
            refused += 1
        else:
            assert excluded is None or excluded("some/path/") in (True, False)
    assert 0 < refused < 3000


def test_files_come_before_options_and_the_last_match_decides(tree: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("*.o\n# nothing\n!a.o\n")
    second.write_text("b.c")
    assert set(FILES) - kept(tree, "!keep.o", files=(first, second)) == {"build/x.o", "b.c"}


def test_what_is_no_pattern_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("*.o\n!\n")
    with pytest.raises(InvalidArgument, match=r"not a pattern in .*file: '!'"):
        exclusion([], [tmp_path / "file"])
    for pattern in ("!", "/", "!//", "[a", "a[", "a\\"):
        with pytest.raises(InvalidArgument, match="--exclude"):
            exclusion([pattern], [])
    with pytest.raises(SourceNotFound, match="nowhere"):
        exclusion([], [tmp_path / "nowhere"])
