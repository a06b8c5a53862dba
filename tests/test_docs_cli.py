"""docs/cli.rst and the manual page say what the program does: every command, every option, every JSON field."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anthill_sync.cli import app
from anthill_sync.cli_tree import CommandHelp, commands

from .cli_tools import Shell, make_shell

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "cli.rst").read_text(encoding="utf-8")
EVERY = [each for each in commands(app) if each.path and not each.commands]


def helplib(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT}"}
    command = [sys.executable, "-m", f"helplib.{module}", *arguments]
    return subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=False)


# -- the reference


def test_the_reference_is_what_the_help_says_now() -> None:
    assert helplib("reference", "--check").returncode == 0, "run scripts/reference"


def test_a_change_of_the_help_is_noticed(tmp_path: Path) -> None:
    """The check is one: a page with one word changed, or a block missing, is renewed to what it was."""
    code = "import sys; from helplib.reference import renewed; sys.stdout.write(renewed(sys.stdin.read()))"
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT}"}

    def renewed(page: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", code], env=env, input=page, capture_output=True, text=True, check=True
        ).stdout

    assert renewed(PAGE.replace("Only when there is no such key.", "Never.")) == PAGE
    gone = re.sub(r"\.\. from the help: trim\n.*?\.\. end of the help\n", "", PAGE, flags=re.DOTALL)
    assert renewed(gone).endswith(
        "trim\n----\n\n" + re.findall(r"\.\. from the help: trim\n.*?\.\. end of the help\n", PAGE, re.DOTALL)[0]
    )
    assert "frobnicate" not in renewed(PAGE + "\n.. from the help: frobnicate\n\nx\n\n.. end of the help\n")


@pytest.mark.parametrize("command", EVERY, ids=lambda command: command.name)
def test_every_command_has_a_section_with_its_options(command: CommandHelp) -> None:
    match = re.search(
        rf"^{command.name}\n-+\n\n\.\. from the help: {command.name}\n(.*?)\.\. end of the help\n", PAGE, re.M | re.S
    )
    assert match is not None
    common = PAGE.partition(".. from the help: all commands\n")[2].partition(".. end")[0]
    for option in command.options:
        assert all(name in match[1] + common + "--help" for name in option.names), option
    for argument in command.arguments:
        assert argument.metavar in match[1]


def json_fields() -> dict[str, set[str]]:
    """Names on the first level of each command's object, from the table."""
    table = PAGE.partition("command                  its object\n")[2].partition("\n\n")[0].split("\n", 1)[1].rpartition("\n")[0]
    found: dict[str, set[str]] = {}
    named: list[str] = []
    for line in table.splitlines():
        if line[:25].strip():
            named = re.findall(r"``([^`]+)``", line[:25])
        outside = re.sub(r"\([^)]*\)", "", line[25:]).partition(";")[0]
        for each in named:
            found.setdefault(each, set()).update(
                word for part in re.findall(r"``([^`]+)``", outside) for word in re.findall(r"\w+", part)
            )
    return found


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    shell = make_shell(tmp_path / "home")
    for key in ("k", "old", "gone"):
        shell.ok("put", key, "-", stdin=b"1")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"1")
    return shell


def answered(shell: Shell, name: str, folder: Path) -> dict[str, Any]:
    """The object of one command."""
    tree, out = folder / "tree", folder / "out"
    words: dict[str, tuple[object, ...]] = {
        "put": ("put", "k", tree / "file"),
        "put -r": ("put", "t", tree, "-r"),
        "put --dry-run": ("put", "k", tree / "file", "-n"),
        "get": ("get", "k", out),
        "get -r": ("get", "k", out, "-r"),
        "ls": ("ls",),
        "ls --pending": ("ls", "--pending"),
        "stat": ("stat", "k"),
        "mv": ("mv", "old", "new"),
        "rm": ("rm", "gone"),
        "abandon": ("abandon",),
        "resume": ("resume",),
        "reserve": ("reserve", "1"),
        "trim": ("trim",),
        "usage": ("usage",),
        "check": ("check",),
        "drill": ("drill",),
        "repair": ("repair",),
        "recover": ("recover",),
        "key verify": ("key", "verify", shell.home / "key"),
    }
    result: dict[str, Any] = shell.ok(*words[name], "--json").json
    return result


@pytest.mark.parametrize("name", sorted(json_fields()))
def test_json_has_the_documented_fields(shell: Shell, tmp_path: Path, name: str) -> None:
    found = answered(shell, name, tmp_path)
    assert found.pop("format") == 1
    expected = json_fields()[name]
    if name == "stat":
        expected = expected | json_fields_of_keys()
    assert set(found) == expected


def json_fields_of_keys() -> set[str]:
    return {"key", "size", "version", "modified", "pads"}


def test_every_command_with_json_is_in_the_table() -> None:
    with_json = {each.name for each in EVERY if any("--json" in option.names for option in each.options)}
    assert {name.partition(" -")[0] for name in json_fields()} == with_json


# -- the manual page


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = helplib("man")
    assert (made.returncode, made.stderr) == (0, "")
    path = tmp_path_factory.mktemp("man") / "anthill.1"
    path.write_text(made.stdout, encoding="utf-8")
    return path


def test_the_manual_page_names_every_command_and_option(manual: Path) -> None:
    text = manual.read_text("utf-8").replace("\\-", "-")
    for command in EVERY:
        assert re.search(rf'^\.SS "{command.name}[ "]', text, re.MULTILINE), command.name
        assert all(f"{name}" in text for option in command.options for name in option.names)


def test_the_manual_page_renders_without_warnings(manual: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("there is no groff")
    done = subprocess.run(["groff", "-ww", "-man", "-Tutf8", str(manual)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    plain = re.sub(r"\x1b\[[\d;]*m|.\x08", "", done.stdout)
    assert "anthill - a private key-value store" in plain
    assert "--exclude-from FILE" in plain
    assert re.search(r"^ +75 +another +run +holds +the +lock", plain, re.MULTILINE)  # lines are justified


def test_man_shows_the_manual_page(manual: Path) -> None:
    if shutil.which("man") is None:
        pytest.skip("there is no man")
    env = {"PATH": os.environ["PATH"], "MANWIDTH": "100", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"}
    done = subprocess.run(["man", "--warnings", str(manual)], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "EXIT STATUS" in done.stdout
