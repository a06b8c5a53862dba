"""The commands, one by one, on a real store."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
from pathlib import Path

import pytest

from .cli_tools import Shell, call, make_shell, secret_file

KIB = 1024
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return make_shell(tmp_path / "home")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three chunks."""
    path = tmp_path / "source"
    path.write_bytes(os.urandom(40 * KIB))
    return path


# -- init and config


def test_init_tells_the_key_the_danger_and_the_line_for_cron(tmp_path: Path) -> None:
    home = tmp_path / "a home"
    result = call("init", "--home", home)
    assert (result.code, result.err) == (0, "")
    assert f"key: {home / 'key'}\n" in result.out
    assert "loses everything" in result.out
    cron = next(line for line in result.out.splitlines() if line.startswith("in cron: "))
    assert shlex.split(cron)[2:5] == ["anthill", "--home", str(home)]
    assert stat.S_IMODE((home / "key").stat().st_mode) == 0o600


def test_init_takes_network_pad_size_key_slot_and_settings(tmp_path: Path) -> None:
    (tmp_path / "network").mkdir()
    options = ("--network", f"dir://{tmp_path}/network", "--key-file", tmp_path / "key", "--slot", "3")
    shell = make_shell(tmp_path / "home", *options, "--set", "upload_threads=2", "--set", "objects.region=here")
    assert shell.ok("config", "upload_threads").out == "2\n"
    assert shell.ok("config", "objects.region").out == "here\n"
    assert shell.ok("config", "pad_size").out == "16384\n"
    assert shell.ok("config", "slot").out == "3\n"
    assert (tmp_path / "key").exists()
    shell.ok("put", "a", "-", stdin=b"value")
    assert any((tmp_path / "network").rglob("*"))


def test_init_over_a_store_changes_nothing(shell: Shell) -> None:
    key = (shell.home / "key").read_bytes()
    assert shell("init").code == 73
    assert (shell.home / "key").read_bytes() == key


def test_a_memory_network_is_for_python_only(tmp_path: Path) -> None:
    assert call("init", "--home", tmp_path / "home", "--network", "memory://x").code == 78
    assert not (tmp_path / "home").exists()


def test_config_tells_every_setting_its_value_and_where_it_comes_from(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.ok("config", "attempts", "7")
    monkeypatch.setenv("ANTHILL_READ_TIMEOUT", "5")
    lines = shell.ok("config").out.splitlines()
    assert "attempts = 7  (config.json)" in lines
    assert "read_timeout = 5  (ANTHILL_READ_TIMEOUT)" in lines
    assert "upload_threads = 20  (default)" in lines
    assert "slot = 0  (fixed by init)" in lines


def test_config_refuses_what_is_unknown_or_senseless(shell: Shell) -> None:
    assert shell("config", "no_such_setting").code == 78
    assert shell("config", "no_such_setting", "1").code == 78
    assert shell("config", "attempts", "none").code == 78
    assert shell.ok("config", "attempts").out == "5\n"


def test_config_does_not_show_secrets(shell: Shell) -> None:
    shell.ok("config", "objects.aws_secret_access_key", "-", stdin=b"hunter2\n")
    assert json.loads((shell.home / "config.json").read_bytes())["settings"]["objects.aws_secret_access_key"] == "hunter2"
    shell.ok("config", "proxy", "http://me:hunter2@proxy:3128")
    assert "hunter2" not in shell.ok("config").out
    assert "hunter2" not in shell.ok("config", "proxy").out
    assert "objects.aws_secret_access_key = (set, not shown)" in shell.ok("config").out


@pytest.mark.parametrize("name", ["objects.secret_access_key", "objects.account_key", "objects.bearer_token", "objects.sas_key"])
def test_a_secret_is_not_taken_from_the_command_line(shell: Shell, tmp_path: Path, name: str) -> None:
    refused = [shell("config", name, "hunter2"), Shell(tmp_path / "new")("init", "--set", f"{name}=hunter2")]
    for result in refused:
        assert result.code == 78
        assert f"anthill config {name} -" in result.err
        assert "hunter2" not in result.err
    assert not (tmp_path / "new").exists()
    assert shell.ok("config", name).out == "\n"


def test_the_names_and_places_of_secrets_are_none(shell: Shell) -> None:
    for name in ("objects.access_key_id", "objects.web_identity_token_file", "objects.service_account"):
        shell.ok("config", name, "where")
        assert shell.ok("config", name).out == "where\n"


def test_a_value_from_an_empty_standard_input_is_a_mistake(shell: Shell) -> None:
    assert shell("config", "objects.region", "-").code == 64


# -- options before and after


def test_common_options_stand_before_or_after_the_command(shell: Shell, tmp_path: Path) -> None:
    shell.ok("put", "key", "-", stdin=b"v")
    assert call("--home", shell.home, "ls").out == "key\n"
    assert call("ls", "--home", shell.home).out == "key\n"
    assert call("--home", tmp_path / "wrong", "ls", "--home", shell.home).out == "key\n"


def test_home_comes_from_the_environment(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHILL_HOME", str(shell.home))
    assert call("ls").code == 0


def test_no_store_names_the_path_and_the_way_to_make_one(tmp_path: Path) -> None:
    result = call("--home", tmp_path / "nothing", "ls")
    assert result.code == 78
    assert str(tmp_path / "nothing") in result.err
    assert "init" in result.err


def test_the_log_file_holds_what_happened_and_no_secret(shell: Shell, tmp_path: Path) -> None:
    log = tmp_path / "log"
    shell.ok("put", "secret-name", "-", "--log-file", log, stdin=b"secret-value")
    shell.ok("--log-file", log, "ls")
    assert log.exists()
    assert b"secret" not in log.read_bytes()


def test_a_log_file_that_cannot_be_written_is_an_error(shell: Shell, tmp_path: Path) -> None:
    assert shell("ls", "--log-file", tmp_path / "no" / "log").code == 66


# -- passphrases


def test_a_wrapped_key_opens_with_the_file_the_setting_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret_file(tmp_path / "pass", "correct horse\nsecond line\n")
    secret_file(tmp_path / "wrong", "battery staple\n")
    shell = make_shell(tmp_path / "home", "--passphrase-file", tmp_path / "pass")
    assert shell("ls").code == 78
    assert shell("ls", "--passphrase-file", tmp_path / "wrong").code == 77
    shell.ok("--passphrase-file", tmp_path / "pass", "ls")
    monkeypatch.setenv("ANTHILL_PASSPHRASE_FILE", str(tmp_path / "pass"))
    shell.ok("ls")
    monkeypatch.delenv("ANTHILL_PASSPHRASE_FILE")
    shell.ok("config", "passphrase_file", tmp_path / "pass")
    shell.ok("ls")
    assert b"correct horse" not in (tmp_path / "home" / "config.json").read_bytes()


# -- put and get


def test_a_file_and_stdin_come_back_as_they_were(shell: Shell, source: Path, tmp_path: Path) -> None:
    shell.ok("put", "file", source)
    shell.ok("put", "piped", "-", stdin=b"\0binary\xff")
    assert shell.ok("get", "file").data == source.read_bytes()
    assert shell.ok("get", "piped", "-").data == b"\0binary\xff"
    shell.ok("get", "file", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


def test_a_part_of_a_value_can_be_read(shell: Shell, source: Path) -> None:
    shell.ok("put", "k", source)
    assert shell.ok("get", "k", "--offset", "15KiB", "--length", "100").data == source.read_bytes()[15 * KIB :][:100]
    assert shell.ok("get", "k", "--offset", "40000").data == source.read_bytes()[40000:]


def test_put_json_tells_what_was_moved(shell: Shell, source: Path) -> None:
    answer = shell.ok("put", "k", source, "--json").json
    assert set(answer) == {"format", "key", "size", "version", "pads_written", "pads_reserved", "bytes_sent", "seconds"}
    assert (answer["format"], answer["key"], answer["size"]) == (1, "k", 40 * KIB)
    assert answer["pads_written"] >= 3
    assert answer["pads_reserved"] >= 3
    assert answer["bytes_sent"] >= 40 * KIB


def test_put_if_absent_keeps_what_is_there(shell: Shell) -> None:
    shell.ok("put", "k", "-", "--if-absent", stdin=b"old")
    result = shell("put", "k", "-", "--if-absent", "--json", stdin=b"new")
    assert result.code == 3
    assert (result.error["code"], result.error["key"]) == (3, "k")
    assert shell.ok("get", "k").data == b"old"


def test_put_of_a_directory_needs_r(shell: Shell, tmp_path: Path) -> None:
    result = shell("put", "k", tmp_path)
    assert result.code == 64
    assert "-r" in result.err


def test_max_pads_is_a_hard_cap(shell: Shell, source: Path) -> None:
    assert shell("put", "k", source, "--max-pads", "1").code == 73
    assert shell.ok("usage", "--json").json["pads"]["total"] == 0


def test_get_does_not_overwrite_without_force(shell: Shell, tmp_path: Path) -> None:
    shell.ok("put", "k", "-", stdin=b"new")
    there = tmp_path / "there"
    there.write_bytes(b"old")
    assert shell("get", "k", there).code == 73
    assert there.read_bytes() == b"old"
    shell.ok("get", "k", there, "--force")
    assert there.read_bytes() == b"new"


def test_get_into_a_device_writes_to_it_and_does_not_replace_it(shell: Shell) -> None:
    shell.ok("put", "k", "-", stdin=b"v")
    shell.ok("get", "k", "/dev/null", "--force")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_get_onto_a_directory_is_refused(shell: Shell, tmp_path: Path) -> None:
    shell.ok("put", "k", "-", stdin=b"v")
    assert shell("get", "k", tmp_path, "--force").code == 73


def test_get_json_needs_a_file(shell: Shell, tmp_path: Path) -> None:
    version = shell.ok("put", "k", "-", "--json", stdin=b"v").json["version"]
    answer = shell.ok("get", "k", tmp_path / "out", "--json").json
    assert answer == {"format": 1, "key": "k", "size": 1, "version": version, "seconds": answer["seconds"]}
    assert shell("get", "k", "--json").code == 64


def test_a_failed_get_leaves_no_file(shell: Shell, tmp_path: Path) -> None:
    assert shell("get", "nothing", tmp_path / "out").code == 66
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home"]


# -- ls, stat, mv, rm


def test_ls_is_in_byte_order_and_below_a_prefix(shell: Shell) -> None:
    for key in ("b", "a/z", "a/é", "a", "ab", "a/Z"):
        shell.ok("put", key, "-", stdin=b"v")
    assert shell.ok("ls").out.splitlines() == ["a", "a/Z", "a/z", "a/é", "ab", "b"]
    assert shell.ok("ls", "a").out.splitlines() == ["a", "a/Z", "a/z", "a/é"]
    assert shell.ok("ls", "a/").out == shell.ok("ls", "a").out
    assert shell.ok("ls", "nothing").out == ""


def test_ls_json_and_long_name_size_version_time_and_pads(shell: Shell, source: Path) -> None:
    version = shell.ok("put", "k", source, "--json").json["version"]
    (entry,) = shell.ok("ls", "--json").json["keys"]
    assert entry == {"key": "k", "size": 40 * KIB, "version": version, "modified": entry["modified"], "pads": entry["pads"]}
    assert ISO.fullmatch(entry["modified"])
    assert shell.ok("ls", "-l").out.split() == [str(40 * KIB), str(version), entry["modified"], str(entry["pads"]), "k"]


def test_stat_tells_blocks_and_attributes(shell: Shell, source: Path) -> None:
    shell.ok("put", "k", source)
    answer = shell.ok("stat", "k", "--json").json
    assert set(answer) == {"format", "key", "size", "version", "modified", "pads", "attributes", "blocks"}
    assert [block["chunk"] for block in answer["blocks"]] == [0, 1, 2]
    assert all(set(block) == {"chunk", "pad", "offset", "length"} for block in answer["blocks"])
    assert "size: 40960\n" in shell.ok("stat", "k").out


def test_mv_renames_and_needs_force_over_a_value(shell: Shell) -> None:
    shell.ok("put", "a", "-", stdin=b"1")
    shell.ok("put", "b", "-", stdin=b"2")
    assert shell("mv", "a", "b").code == 3
    answer = shell.ok("mv", "a", "b", "--force", "--json").json
    assert answer == {"format": 1, "keys": ["b"], "old": "a", "new": "b", "version": answer["version"]}
    assert shell.ok("ls").out == "b\n"
    assert shell.ok("get", "b").data == b"1"


def test_rm_is_all_or_nothing(shell: Shell) -> None:
    for key in ("a", "b"):
        shell.ok("put", key, "-", stdin=b"v")
    assert shell("rm", "a", "missing", "b").code == 66
    assert shell.ok("ls").out == "a\nb\n"
    assert shell.ok("rm", "a", "missing", "b", "--ignore-missing", "--json").json == {"format": 1, "keys": ["a", "b"]}
    assert shell.ok("ls").out == ""


def test_rm_r_removes_the_key_and_all_below_it(shell: Shell) -> None:
    for key in ("a", "a/x", "a/y/z", "ab", "c/1"):
        shell.ok("put", key, "-", stdin=b"v")
    assert shell("rm", "-r", "a", "missing").code == 66
    assert shell.ok("rm", "-r", "a", "c", "--json").json == {"format": 1, "keys": ["a", "a/x", "a/y/z", "c/1"]}
    assert shell.ok("ls").out == "ab\n"
