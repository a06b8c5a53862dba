"""Keys and passphrases at the command line: found, asked for, exported, proved, changed; and never shown."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from anthill_sync.cli_passphrase import read_passphrase, run_passphrase_command
from anthill_sync.errors import ConfigurationError, PermissionRefused, SourceNotFound

from .cli_tools import PROGRAM, Shell, Terminal, environment, make_shell, secret_file

WORD = "correct horse battery staple"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return secret_file(tmp_path / "pass", f"{WORD}\nsecond line\n")


@pytest.fixture
def plain(tmp_path: Path) -> Shell:
    shell = make_shell(tmp_path / "home")
    shell.ok("put", "k", "-", stdin=b"value")
    return shell


@pytest.fixture
def wrapped(tmp_path: Path, plain: Shell, secret: Path) -> Shell:
    plain.ok("key", "passphrase", "--new-passphrase-file", secret)
    assert plain("get", "k").code == 78
    return plain


# -- where a passphrase comes from


@pytest.mark.parametrize(("data", "first"), [(b"secret\nmore", "secret"), (b"pass word \r\n", "pass word "), (b"x", "x")])
def test_the_passphrase_is_the_first_line_of_its_file(tmp_path: Path, data: bytes, first: str) -> None:
    secret_file(tmp_path / "file", "").write_bytes(data)
    assert read_passphrase(tmp_path / "file") == first


@pytest.mark.parametrize("data", [b"", b"\nsecond", b"\xff\xfe\n"])
def test_a_passphrase_file_without_a_passphrase_is_a_configuration_error(tmp_path: Path, data: bytes) -> None:
    secret_file(tmp_path / "file", "").write_bytes(data)
    with pytest.raises(ConfigurationError):
        read_passphrase(tmp_path / "file")


def test_a_passphrase_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="nowhere"):
        read_passphrase(tmp_path / "nowhere")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_passphrase_file_that_may_not_be_read_is_77(tmp_path: Path) -> None:
    (tmp_path / "file").touch(mode=0)
    with pytest.raises(PermissionRefused):
        read_passphrase(tmp_path / "file")


def test_a_passphrase_file_that_others_can_write_is_refused(wrapped: Shell, secret: Path) -> None:
    secret.chmod(0o602)
    result = wrapped("get", "k", "--passphrase-file", secret)
    assert result.code == 77
    assert "chmod 600" in result.err


def test_a_command_prints_the_passphrase(wrapped: Shell, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = f"cat {shlex.quote(str(secret))}"
    assert wrapped.ok("get", "k", "--passphrase-command", command).data == b"value"
    monkeypatch.setenv("ANTHILL_PASSPHRASE_COMMAND", command)
    wrapped.ok("get", "k")
    monkeypatch.delenv("ANTHILL_PASSPHRASE_COMMAND")
    wrapped.ok("config", "passphrase_command", command)
    wrapped.ok("get", "k")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("sh -c 'echo hunter2; exit 3'", "passphrase command sh ended with code 3"),
        ("no-such-program hunter2", "passphrase command no-such-program cannot be run"),
        ("sh -c 'exit 0' hunter2", "what the passphrase command sh printed is empty"),
        ("printf '\\377 hunter2'", "printf printed is not UTF-8"),
        ("echo 'hunter2", "cannot be split"),
        ("", "cannot be split"),
    ],
)
def test_a_command_that_prints_none_is_78_and_its_arguments_stay_secret(wrapped: Shell, command: str, reason: str) -> None:
    result = wrapped("get", "k", "--passphrase-command", command)
    assert (result.code, result.out) == (78, "")
    assert reason in result.err
    assert "hunter2" not in result.err


def test_a_command_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anthill_sync.cli_passphrase.COMMAND_SECONDS", 0.05)
    with pytest.raises(ConfigurationError, match="took longer"):
        run_passphrase_command("sleep 600")


def test_the_passphrase_command_cannot_eat_the_value(wrapped: Shell, secret: Path) -> None:
    script = f"sh -c {shlex.quote(f'cat >&2; cat {shlex.quote(str(secret))}')}"
    result = wrapped.run("put", "other", "-", "--passphrase-command", script, stdin=b"all of it")
    assert (result.code, result.err) == (0, "")
    assert wrapped.ok("get", "other", "--passphrase-file", secret).data == b"all of it"


def test_file_and_command_at_once_are_refused(wrapped: Shell, secret: Path) -> None:
    assert wrapped("get", "k", "--passphrase-file", secret, "--passphrase-command", "cat").code == 64


def test_an_option_wins_over_the_setting(wrapped: Shell, secret: Path, tmp_path: Path) -> None:
    wrapped.ok("config", "passphrase_file", secret_file(tmp_path / "wrong", "wrong\n"))
    assert wrapped("get", "k").code == 77
    wrapped.ok("get", "k", "--passphrase-command", f"cat {shlex.quote(str(secret))}")


def test_a_key_without_a_passphrase_asks_for_none_and_runs_nothing(plain: Shell, tmp_path: Path) -> None:
    plain.ok("get", "k", "--passphrase-command", f"touch {shlex.quote(str(tmp_path / 'ran'))}")
    assert not (tmp_path / "ran").exists()


def test_the_service_manager_hands_out_passphrase_and_key(wrapped: Shell, secret: Path, tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    secret.rename(folder / "anthill-passphrase")
    env = environment(CREDENTIALS_DIRECTORY=str(folder))
    assert wrapped.run("get", "k", env=env).data == b"value"
    (wrapped.home / "key").rename(folder / "anthill-key")
    assert wrapped.run("get", "k").code == 78
    assert wrapped.run("get", "k", env=env).data == b"value"


def test_credentials_of_other_programs_do_not_matter(plain: Shell, tmp_path: Path) -> None:
    assert plain.run("get", "k", env=environment(CREDENTIALS_DIRECTORY=str(tmp_path))).data == b"value"
    assert plain.run("get", "k", env=environment(CREDENTIALS_DIRECTORY="/nowhere")).data == b"value"


# -- at a terminal


def terminal(shell: Shell, *arguments: object) -> Terminal:
    return Terminal([*PROGRAM, "--home", str(shell.home), *map(str, arguments)], environment(), columns=200)


def type_at(screen: Terminal, question: str, text: bytes) -> None:
    screen.until(lambda lines: bool(lines) and lines[-1].startswith(question))
    screen.type(text)


def test_a_person_is_asked_and_nothing_typed_is_shown(wrapped: Shell) -> None:
    screen = terminal(wrapped, "get", "k")
    type_at(screen, "Passphrase of", f"{WORD}\n".encode())
    assert screen.end() == 0
    assert screen.lines()[-1] == "value"
    assert not [line for line in screen.lines() if "horse" in line]


def test_a_wrong_passphrase_is_77_and_none_is_78(wrapped: Shell) -> None:
    for text, code in ((b"wrong\n", 77), (b"\n", 78), (b"\x04", 78)):
        screen = terminal(wrapped, "get", "k")
        type_at(screen, "Passphrase of", text)
        assert screen.end() == code


@pytest.mark.parametrize("options", [("--json",), ("--progress", "json")])
def test_nobody_is_asked_where_stderr_is_json(wrapped: Shell, tmp_path: Path, options: tuple[str, ...]) -> None:
    screen = terminal(wrapped, "get", "k", tmp_path / "out", *options)
    assert screen.end() == 78


def test_a_new_passphrase_is_typed_twice(plain: Shell) -> None:
    screen = terminal(plain, "key", "passphrase")
    type_at(screen, "New passphrase", b"first\n")
    type_at(screen, "The same again", b"frist\n")
    assert screen.end() == 64
    plain.ok("get", "k")
    screen = terminal(plain, "key", "passphrase")
    type_at(screen, "New passphrase", b"first\n")
    type_at(screen, "The same again", b"first\n")
    assert screen.end() == 0
    assert plain.ok("get", "k", "--passphrase-command", "echo first").data == b"value"


def test_a_warning_about_a_key_that_others_can_read_is_for_people(plain: Shell) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes files of root")
    (plain.home / "key").chmod(0o444)
    assert plain.run("get", "k").err == ""
    screen = terminal(plain, "get", "k")
    assert screen.end() == 0
    assert screen.lines()[0].startswith("others can read the key file")


# -- export, verify, passphrase


def test_an_exported_key_opens_the_store_it_came_from(plain: Shell, tmp_path: Path) -> None:
    exported = plain.ok("key", "export").out
    assert str(plain.home) in exported
    paper = secret_file(tmp_path / "paper", exported)
    assert plain.ok("key", "verify", paper, "--json").json == {"format": 1, "opens": True, "pad": 0}
    assert plain.ok("key", "verify", "-", stdin=exported.encode()).out == ""
    (plain.home / "key").unlink()
    secret_file(plain.home / "key", exported)
    assert plain.ok("get", "k").data == b"value"


def test_a_wrapped_key_is_exported_without_its_passphrase(wrapped: Shell, secret: Path, tmp_path: Path) -> None:
    exported = wrapped.ok("key", "export").out
    assert "anthill-key-wrapped 1" in exported
    paper = secret_file(tmp_path / "paper", exported)
    assert wrapped("key", "verify", paper).code == 78
    wrapped.ok("key", "verify", paper, "--passphrase-file", secret)


def test_a_key_of_another_store_is_77(plain: Shell, tmp_path: Path) -> None:
    other = make_shell(tmp_path / "other")
    result = plain("key", "verify", other.home / "key")
    assert result.code == 77
    assert "the key of another store" in result.err
    assert plain("key", "verify", tmp_path / "nothing").code == 78


def test_a_typing_error_is_65_and_names_the_line(plain: Shell) -> None:
    exported = plain.ok("key", "export").out
    row = next(line for line in exported.splitlines() if line.startswith("3"))
    wrong = exported.replace(row, row[:3] + ("A" if row[3] != "A" else "B") + row[4:])
    result = plain("key", "verify", "-", stdin=wrong.encode())
    assert result.code == 65
    assert "what was typed: line 3 does not fit its check word" in result.err


def test_a_passphrase_is_changed_and_removed(wrapped: Shell, secret: Path, tmp_path: Path) -> None:
    new = secret_file(tmp_path / "new", "new words\n")
    wrapped.ok("--passphrase-file", secret, "key", "passphrase", "--new-passphrase-command", f"cat {shlex.quote(str(new))}")
    assert wrapped("get", "k", "--passphrase-file", secret).code == 77
    wrapped.ok("get", "k", "--passphrase-file", new)
    wrapped.ok("--passphrase-file", new, "key", "passphrase", "--remove")
    assert wrapped.ok("get", "k").data == b"value"


def test_a_passphrase_is_neither_changed_twice_at_once_nor_by_nobody(plain: Shell, secret: Path) -> None:
    assert plain("key", "passphrase", "--remove", "--new-passphrase-file", secret).code == 64
    assert plain("key", "passphrase").code == 64
    plain.ok("get", "k")


def test_no_passphrase_and_no_key_is_in_the_log(plain: Shell, secret: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    groups = (plain.home / "key").read_text().split()[2].split("-")
    plain.ok("--log-file", log, "-vv", "key", "export")
    plain("--log-file", log, "key", "passphrase", "--new-passphrase-file", secret)
    plain("--log-file", log, "--passphrase-file", secret, "-vv", "get", "k")
    text = log.read_text() + (plain.home / "config.json").read_text()
    assert not [part for part in [WORD, *groups] if part in text]
