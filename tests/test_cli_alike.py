"""A key that is not there is told with those that may have been meant."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from anthill_sync.cli_alike import alike

from .cli_tools import Shell, make_shell

KEYS = ["photos/queen.jpg", "photos/worker.jpg", "notes", "mail/2026-11", "Bericht/Ärger"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("note", ["notes"]),
        ("Notes", ["notes"]),
        ("photos/quen.jpg", ["photos/queen.jpg"]),
        ("photo/worker.jpg", ["photos/worker.jpg"]),
        ("photo", ["photos"]),
        ("bericht/ärger", ["Bericht/Ärger"]),
        ("something else", []),
        ("notes", []),
    ],
)
def test_what_may_have_been_meant(typed: str, meant: list[str]) -> None:
    assert alike(typed, KEYS)[:1] == meant


def test_at_most_three_are_named() -> None:
    assert len(alike("key-1", [f"key-{number}" for number in range(2, 9)])) == 3


def test_a_million_keys_are_not_compared_for_minutes() -> None:
    keys = [f"folder-{number % 1000}/file-{number:07}" for number in range(300_000)]
    began = time.process_time()
    alike("folder-1/file-00000x1", keys)
    assert time.process_time() - began < 20


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    shell = make_shell(tmp_path / "home")
    shell.ok("put", "photos/queen.jpg", "-", stdin=b"1")
    return shell


def test_every_command_that_misses_a_key_says_so(shell: Shell, tmp_path: Path) -> None:
    for words in (
        ("get", "photos/quen.jpg"),
        ("stat", "photos/quen.jpg"),
        ("rm", "photos/quen.jpg"),
        ("mv", "photos/quen.jpg", "x"),
    ):
        result = shell(*words)
        assert result.code == 66
        assert result.err == "anthill: no such key: 'photos/quen.jpg'; did you mean 'photos/queen.jpg'?\n"
    result = shell("get", "photo", tmp_path / "out", "-r")
    assert result.err == "anthill: no key 'photo' and none below it; did you mean 'photos'?\n"
    assert shell("get", "unlike", "--json", tmp_path / "out").error["error"] == "no such key: 'unlike'"
