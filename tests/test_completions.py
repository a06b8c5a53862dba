"""Completion: what each shell offers at the cursor. bash is everywhere; zsh and fish are tested where they are installed."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from anthill_sync.cli import app
from anthill_sync.cli_tree import commands
from anthill_sync.progress import MODES

from .cli_tools import PATIENCE, ROOT, Shell, call, make_shell

KEYS = ["a key with spaces", "photos/queen.jpg", "photos/worker.jpg", "it's $HOME"]

BASH = """
source <(anthill completion bash)
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_anthill
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
compdef() { : }
compadd() { shift; print -l -- ${(P)1} }
_files() { print -l -- FILES "$@" }
source <(anthill completion zsh)
words=("$@"); CURRENT=$#
_anthill
"""
FISH = """
anthill completion fish | source
complete -C (string join ' ' -- (string escape -- $argv[1..-2]) $argv[-1]) | string replace -r '\\t.*' ''
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the command is, beside a file and a folder, with a store that is in use by default."""
    program = tmp_path / "bin" / "anthill"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m anthill_sync "$@"\n'
    )
    program.chmod(0o755)
    shell = make_shell(tmp_path / "store")
    for key in KEYS:
        shell.ok("put", key, "-", stdin=b"1")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a file").touch()
    (tmp_path / "work" / "folder").mkdir()
    return tmp_path


def offered(folder: Path, shell: str, *words: str) -> list[str]:
    """What the shell offers with the cursor at the end of the last word."""
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"there is no {shell}")
    env = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "HOME": str(folder), "ANTHILL_HOME": str(folder / "store"), "TERM": "dumb"}
    start = {
        "bash": [found, "--norc", "-c", BASH, "bash", "anthill", *words],
        "zsh": [found, "-f", "-c", ZSH, "zsh", "anthill", *words],
        "fish": [found, "--no-config", "-c", FISH, "anthill", *words],
    }[shell]
    done = subprocess.run(
        start,
        env=env,
        cwd=folder / "work",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


@pytest.fixture(params=["bash", "zsh", "fish"])
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_commands_are_offered(folder: Path, shell: str) -> None:
    every = [each for each in commands(app) if len(each.path) == 1]
    assert set(offered(folder, shell, "")) == {each.name for each in every}
    assert set(offered(folder, shell, "--home", str(folder / "store"), "-q", "")) == {each.name for each in every}
    assert set(offered(folder, shell, "key", "")) == {"export", "verify", "passphrase"}


@pytest.mark.parametrize("path", [each.path for each in commands(app)], ids=" ".join)
def test_bash_offers_every_option_of_every_command(folder: Path, path: tuple[str, ...]) -> None:
    wanted = next(each for each in commands(app) if each.path == path)
    assert set(offered(folder, "bash", *path, "-")) == {name for option in wanted.options for name in option.names}


def test_options_of_the_command_are_offered(folder: Path, shell: str) -> None:
    found = set(offered(folder, shell, "put", "k", "--ex"))
    assert {each for each in found if each.startswith("--ex")} == {"--exclude", "--exclude-from"}
    assert "--exclude" not in offered(folder, shell, "ls", "--")


def test_keys_of_the_store_are_offered(folder: Path, shell: str) -> None:
    assert len(offered(folder, shell, "get", "")) == len(KEYS)
    assert set(offered(folder, shell, "rm", "photos/queen.jpg", "photos/")) >= {"photos/queen.jpg", "photos/worker.jpg"}
    assert set(offered(folder, shell, "put", "--max-pads", "3", "photos/")) >= {"photos/queen.jpg"}


def test_keys_are_those_of_the_home_on_the_line(folder: Path, shell: str) -> None:
    make_shell(folder / "other store").ok("put", "elsewhere", "-", stdin=b"1")
    assert offered(folder, shell, "--home", str(folder / "other store"), "stat", "") == ["elsewhere"]
    assert offered(folder, shell, "--home", str(folder / "nowhere"), "stat", "") == []


def test_bash_offers_keys_as_they_are_typed(folder: Path) -> None:
    assert set(offered(folder, "bash", "get", "")) == {
        "a\\ key\\ with\\ spaces",
        "photos/queen.jpg",
        "photos/worker.jpg",
        "it\\'s\\ \\$HOME",
    }
    assert offered(folder, "bash", "get", "a\\ k") == ["a\\ key\\ with\\ spaces"]


def test_files_and_folders_are_offered_where_they_belong(folder: Path) -> None:
    assert sorted(offered(folder, "bash", "put", "k", "")) == ["a file", "folder"]
    assert offered(folder, "bash", "put", "k", "--exclude-from", "a") == ["a file"]
    assert offered(folder, "bash", "--home", "") == ["folder"]
    assert offered(folder, "bash", "put", "--metrics-file", "=", "a") == ["a file"]
    assert offered(folder, "zsh", "put", "k", "") == ["FILES"]
    assert offered(folder, "zsh", "--home", "") == ["FILES", "-/"]


def test_values_that_are_words_are_offered(folder: Path, shell: str) -> None:
    assert set(offered(folder, shell, "get", "k", "--progress", "")) == set(MODES)
    assert set(offered(folder, shell, "completion", "")) == {"bash", "fish", "zsh"}
    assert offered(folder, shell, "put", "k", "--max-pads", "") == []


def test_behind_two_dashes_everything_is_a_word(folder: Path) -> None:
    assert offered(folder, "bash", "put", "--", "k", "-") == []
    assert offered(folder, "bash", "get", "--", "photos/q") == ["photos/queen.jpg"]


def test_another_shell_is_64_and_says_which_there_are() -> None:
    result = call("completion", "tcsh")
    assert result.code == 64
    assert "bash, fish, zsh" in result.err


def test_a_home_that_needs_a_passphrase_asks_for_none_while_completing(folder: Path) -> None:
    words = folder / "words"
    words.touch(mode=0o600)
    words.write_text("secret\n")
    Shell(folder / "store").ok("key", "passphrase", "--new-passphrase-file", words)
    assert offered(folder, "bash", "get", "") == []
