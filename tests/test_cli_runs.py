"""Whoever was not there learns how a command ended: last-run.json, a file of metrics, a monitor; none of it fails the command."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from anthill_sync import durable
from anthill_sync.cli_ages import recent
from anthill_sync.cli_runs import Run
from anthill_sync.console import Console
from anthill_sync.errors import ConditionNotMet
from anthill_sync.render import human_duration
from anthill_sync.store import Store

from .cli_tools import LAUNCHER, PATIENCE, PROGRAM, Gate, Shell, environment, make_shell, spawn
from .support.monitors import monitoring


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return make_shell(tmp_path / "home")


def last_run(shell: Shell) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shell.home / "last-run.json").read_text())
    return found


# -- last-run.json


def test_a_success_is_recorded(shell: Shell) -> None:
    before = datetime.now(timezone.utc)
    shell.ok("put", "k", "-", stdin=b"x" * 50_000)
    run = last_run(shell)
    start, end = (
        datetime.fromisoformat(run["start"].replace("Z", "+00:00")),
        datetime.fromisoformat(run["end"].replace("Z", "+00:00")),
    )
    assert before <= start <= end <= datetime.now(timezone.utc)
    assert (run["format"], run["command"], run["exit_code"], run["error"], run["bytes"]) == (1, "put", 0, None, 50_000)
    assert run["last_success"] == {"put": run["end"]}
    assert (shell.home / "last-run.json").stat().st_mode & 0o777 == 0o600


def test_a_failure_is_recorded_beside_the_last_successes(shell: Shell) -> None:
    shell.ok("put", "k", "-", stdin=b"1")
    before = last_run(shell)["last_success"]
    assert shell("put", "k", "-", "--if-absent", stdin=b"2").code == 3
    shell.ok("check")
    assert shell("rm", "nothing").code == 66
    run = last_run(shell)
    assert (run["command"], run["exit_code"], run["error"]) == ("rm", 66, "no such key: 'nothing'")
    assert run["last_success"]["put"] == before["put"]
    assert set(run["last_success"]) == {"put", "check"}


def test_a_command_ended_by_a_signal_is_recorded(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(100_000))
    gate = Gate(tmp_path / "gate")
    with monitoring() as monitor:
        arguments = ("--home", shell.home, "put", "k", tmp_path / "source", "--ping", f"{monitor.url}/id")
        with spawn(*arguments, program=LAUNCHER, env=gate.env, stderr=subprocess.PIPE) as process:
            gate.wait()
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, err) == (-signal.SIGTERM, b"anthill: stopped by SIGTERM\n")
        assert monitor.paths == ["/id/start", "/id/143"]
    assert (last_run(shell)["exit_code"], last_run(shell)["error"]) == (143, "stopped by SIGTERM")


def test_reading_and_looking_leave_no_trace(shell: Shell, tmp_path: Path) -> None:
    shell.ok("put", "k", "-", stdin=b"1")
    (shell.home / "last-run.json").unlink()
    for words in (("get", "k"), ("ls",), ("stat", "k"), ("usage",), ("config",), ("key", "export")):
        shell.ok(*words)
    assert not (shell.home / "last-run.json").exists()
    shell.ok("get", "k", "--metrics-file", tmp_path / "m.prom")
    assert (last_run(shell)["command"], last_run(shell)["bytes"]) == ("get", 1)


def test_where_there_is_no_store_nothing_is_made(tmp_path: Path) -> None:
    assert Shell(tmp_path / "nowhere")("check").code == 78
    (tmp_path / "folder").mkdir()
    assert Shell(tmp_path / "folder")("check").code == 78
    assert list(tmp_path.rglob("*")) == [tmp_path / "folder"]


def test_commands_that_end_at_once_neither_tear_the_file_nor_forget_a_success(shell: Shell) -> None:
    names = [f"command-{number}" for number in range(12)]
    ready, over, torn = threading.Barrier(len(names) + 1), threading.Event(), []

    def read() -> None:
        ready.wait(30)
        while not over.is_set():
            try:
                json.loads((shell.home / "last-run.json").read_text())
            except FileNotFoundError:
                continue
            except ValueError as error:
                torn.append(error)

    def end(name: str) -> None:
        run = Run(Console(home=shell.home), name, recorded=True)
        ready.wait(30)
        run.end(0, None)

    threads = [threading.Thread(target=end, args=(name,)) for name in names]
    reader = threading.Thread(target=read)
    for thread in (*threads, reader):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    reader.join()
    assert torn == []
    assert sorted(last_run(shell)["last_success"]) == sorted(names)


def test_rubbish_in_the_file_is_replaced(shell: Shell) -> None:
    for rubbish in ("", "[]", '{"last_success": 1}', '{"last_success": {"put": 7}}'):
        (shell.home / "last-run.json").write_text(rubbish)
        shell.ok("check", "--metrics-file", shell.home / "m.prom")
        assert "check" in last_run(shell)["last_success"]


def test_a_full_disk_is_a_warning_and_the_command_succeeds(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "replace_file", full)
    result = shell("check", "--metrics-file", shell.home / "m.prom")
    assert (result.code, result.err.splitlines()) == (
        0,
        [
            "warning: last-run.json was not written: No space left on device",
            "warning: the file of metrics was not written: No space left on device",
        ],
    )
    assert shell("check", "-q").err == ""


def test_a_lock_that_somebody_keeps_is_a_warning(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from anthill_sync.lock import FileLock

    monkeypatch.setattr("anthill_sync.cli_runs._LOCK_SECONDS", 0)
    other = FileLock(shell.home / "last-run.lock")
    other.acquire(0)
    result = shell("check")
    assert result.code == 0
    assert result.err.startswith("warning: last-run.json was not written")
    other.release()


def test_a_read_only_home_is_no_reason_for_words(shell: Shell) -> None:
    shell.ok("put", "k", "-", stdin=b"1")
    before = last_run(shell)
    folder = shlex.quote(str(shell.home))
    mount = f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder} || exit 99"
    command = shlex.join([*PROGRAM, "--home", str(shell.home), "check", "--read-data"])
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{mount}; {command}"], env=environment(), capture_output=True, check=False
    )
    if done.returncode == 99 or b"unshare" in done.stderr:
        pytest.skip("this user may not mount")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert last_run(shell) == before


# -- metrics


def samples(path: Path) -> dict[str, tuple[dict[str, str], float]]:
    families = text_string_to_metric_families(path.read_text("utf-8"))
    return {sample.name: (sample.labels, sample.value) for family in families for sample in family.samples}


def test_metrics_are_what_prometheus_reads(tmp_path: Path) -> None:
    shell = make_shell(tmp_path / 'a "home"\nwith \\ everything')
    path = tmp_path / "anthill.prom"
    shell.ok("put", "k", "-", "--metrics-file", path, stdin=b"x" * 1000)
    found = samples(path)
    assert {tuple(sorted(labels.items())) for labels, _ in found.values()} == {(("command", "put"), ("home", str(shell.home)))}
    values = {name.removeprefix("anthill_run_"): value for name, (_, value) in found.items()}
    assert (values["exit_code"], values["processed_bytes"]) == (0, 1000)
    assert values["start_timestamp_seconds"] < values["end_timestamp_seconds"]
    assert values["last_success_timestamp_seconds"] == pytest.approx(values["end_timestamp_seconds"], abs=0.001)
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("anthill")] == ["anthill.prom"]


def test_metrics_of_a_failure_keep_the_last_success(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "m.prom"
    shell("rm", "nothing", "--metrics-file", path)
    assert "anthill_run_last_success_timestamp_seconds" not in samples(path)
    shell.ok("put", "k", "-", "--metrics-file", path, stdin=b"1")
    before = samples(path)["anthill_run_last_success_timestamp_seconds"]
    shell("put", "k", "-", "--if-absent", "--metrics-file", path, stdin=b"1")
    after = samples(path)
    assert after["anthill_run_exit_code"][1] == 3
    assert after["anthill_run_last_success_timestamp_seconds"] == before


@pytest.mark.parametrize("place", ["/dev/null", "/nowhere/m.prom", "/"])
def test_a_place_that_takes_no_metrics_is_a_warning(shell: Shell, place: str) -> None:
    result = shell("check", "--metrics-file", place)
    assert result.code == 0
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith("warning: the file of metrics was not written")
    assert Path("/dev/null").is_char_device()


# -- the monitor


def test_the_monitor_is_told_of_success_and_failure(shell: Shell) -> None:
    with monitoring() as monitor:
        shell.ok("put", "k", "-", "--ping", f"{monitor.url}/id", stdin=b"1")
        assert shell("put", "k", "-", "--if-absent", "--ping", f"{monitor.url}/id", stdin=b"1").code == 3
        assert monitor.paths == ["/id/start", "/id/0", "/id/start", "/id/3"]


def test_the_monitor_is_told_that_there_is_no_store(tmp_path: Path) -> None:
    with monitoring() as monitor:
        assert Shell(tmp_path / "nowhere")("check", "--ping", f"{monitor.url}/id").code == 78
        assert monitor.paths == ["/id/start", "/id/78"]


def test_a_monitor_that_fails_is_one_warning_and_its_url_stays_secret(shell: Shell, tmp_path: Path) -> None:
    with monitoring(lambda path: 500) as monitor:
        result = shell("--log-file", tmp_path / "log", "put", "k", "-", "--ping", f"{monitor.url}/secret-id", stdin=b"1")
        assert (result.code, result.err) == (0, f"warning: the monitor was not told: {monitor.url} answered 500\n")
        result = shell("-vv", "--log-file", tmp_path / "log", "rm", "x", "--json", "--ping", f"{monitor.url}/secret-id")
        assert result.error["code"] == 66  # the last line, behind the warning
        assert "secret-id" not in result.err
    assert "secret-id" not in (tmp_path / "log").read_text() + (shell.home / "last-run.json").read_text()


def test_a_url_that_is_none_is_78_before_anything_is_done(shell: Shell) -> None:
    result = shell("put", "k", "-", "--ping", "secret-id", stdin=b"1")
    assert result.code == 78
    assert "secret-id" not in result.err
    assert shell.ok("ls").out == ""


# -- stat --max-age


def test_a_recent_value_is_proved_in_silence(shell: Shell) -> None:
    shell.ok("put", "k", "-", stdin=b"1")
    assert shell.ok("stat", "k", "--max-age", "26h").out == ""
    assert shell.ok("stat", "k", "--max-age", "26h", "--json").json["key"] == "k"


def test_an_old_or_absent_value_is_3_and_the_message_says_which(shell: Shell) -> None:
    shell.ok("put", "k", "-", stdin=b"1")
    result = shell("stat", "k", "--max-age", "0s")
    assert result.code == 3
    assert "'k' is 0 seconds old, older than 0 seconds" in result.err
    result = shell("stat", "gone", "--max-age", "26h")
    assert (result.code, result.err) == (3, "anthill: no such key: 'gone'\n")
    assert shell("stat", "k", "--max-age", "soon").code == 64


def test_the_limit_is_exact_and_the_future_proves_nothing(tmp_path: Path) -> None:
    with Store.create(tmp_path / "home", pad_size=16384) as store:
        stored = store.put("k", b"1").modified
        assert recent(store, "k", 3600, stored + timedelta(hours=1)).key == "k"
        assert recent(store, "k", 3600, stored - timedelta(seconds=50)).key == "k"
        with pytest.raises(ConditionNotMet, match=r"1\.5 hours|90 minutes"):
            recent(store, "k", 3600, stored + timedelta(minutes=90))
        with pytest.raises(ConditionNotMet, match="still to come"):
            recent(store, "k", 3600, stored - timedelta(days=1))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 seconds"), (119, "119 seconds"), (120, "2 minutes"), (5400, "90 minutes"), (93600, "26 hours"), (864000, "10 days")],
)
def test_ages_are_readable(seconds: float, words: str) -> None:
    assert human_duration(seconds) == words
