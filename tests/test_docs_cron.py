"""docs/cron.rst beyond single lines: a watched job, log rotation, and a service with credentials, as they stand there."""

from __future__ import annotations

import getpass
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from . import test_docs
from .cli_tools import secret_file
from .support.monitors import monitoring
from .test_docs import CRON, ROOT, as_cron, blocks, keys, run

program = test_docs.program
ann = test_docs.ann


def test_the_watched_job_tells_everyone_and_says_nothing(ann: Path) -> None:
    (line,) = blocks(CRON, "monitored")
    (ann / "metrics").mkdir()
    (ann / "log").mkdir()
    with monitoring() as monitor:
        done = as_cron(line.replace("https://hc-ping.com", monitor.url), ann)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert monitor.paths == ["/YOUR-ID/start", "/YOUR-ID/0"]
    assert 'anthill_run_exit_code{command="put"' in (ann / "metrics" / "documents.prom").read_text()
    log = (ann / "log" / "anthill.log").read_text()
    last = json.loads((ann / "store" / "last-run.json").read_text())
    assert last["exit_code"] == 0
    assert all(line.split()[1] == last["run"] for line in log.splitlines())
    assert "YOUR-ID" not in log + json.dumps(last)
    assert set(last) <= {
        *re.findall(r"``(\w+)``", CRON.partition("\nWatching it\n")[2].partition("\n* ``--metrics")[0]),
        "format",
    }


def test_a_log_may_be_rotated_as_shown(ann: Path, program: Path) -> None:
    rotate = shutil.which("logrotate", path="/usr/sbin:/usr/bin")
    if rotate is None:
        pytest.skip("there is no logrotate")
    (block,) = blocks(CRON, "logrotate")
    user = getpass.getuser()
    (ann / "log").mkdir()
    settings = ann / "rotation"
    settings.write_text(block.replace("/home/ann", str(ann)).replace("ann ann", f"{user} {user}"))
    settings.chmod(0o644)
    log = ann / "log" / "anthill.log"
    command = [str(program), "--home", str(ann / "store"), "--log-file", str(log), "check"]
    assert run(command, ann, program).returncode == 0
    before = log.read_text()
    done = subprocess.run([rotate, "-f", "-s", str(ann / "state"), str(settings)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert run(command, ann, program).returncode == 0
    assert Path(f"{log}.1").read_text() == before
    assert len(log.read_text().splitlines()) == len(before.splitlines())


def service() -> str:
    (block,) = blocks(CRON, "system service")
    return block


def test_the_service_gets_its_passphrase_from_the_service_manager(ann: Path, program: Path, tmp_path: Path) -> None:
    ((name, source),) = re.findall(r"^LoadCredential=([\w-]+):(\S+)$", service(), re.MULTILINE)
    assert source.startswith("/etc/")
    secret_file(tmp_path / name, "words\n")
    home = ["--home", str(ann / "store")]
    assert (
        run([str(program), *home, "key", "passphrase", "--new-passphrase-file", str(tmp_path / name)], ann, program).returncode
        == 0
    )
    (command,) = re.findall(r"^ExecStart=(.*)$", service(), re.MULTILINE)
    words = shlex.split(command.replace("/home/ann", str(ann)))
    assert run(words, ann, program).returncode == 78
    done = run(["env", f"CREDENTIALS_DIRECTORY={tmp_path}", *words], ann, program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (tmp_path / "anthill-key").write_bytes((ann / "store" / "key").read_bytes())
    (tmp_path / "anthill-key").chmod(0o400)
    (ann / "store" / "key").unlink()
    done = run(["env", f"CREDENTIALS_DIRECTORY={tmp_path}", str(program), *home, "ls"], ann, program)
    assert (done.returncode, done.stdout) == (0, "documents/letters/one.txt\n")
    assert keys(ann, program) == []  # without the credential there is no key


@pytest.mark.parametrize("mark", ["service", "system service"])
def test_systemd_accepts_the_service(tmp_path: Path, mark: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd")
    (block,) = blocks(CRON, mark)
    command = shlex.join([sys.executable, "-m", "anthill_sync"])
    unit = tmp_path / "anthill-documents.service"
    unit.write_text(
        re.sub(r"^ExecStart=\S+", f"ExecStart={command}", block, flags=re.MULTILINE).replace("User=ann", "User=root") + "\n"
    )
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    about_it = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (about_it, done.returncode) == ([], 0), done.stderr


def test_codes_in_the_service_are_those_of_the_table() -> None:
    documented = set(re.findall(r"^(\d+) {2}", CRON, re.MULTILINE))
    named = {code for codes in re.findall(r"ExitStatus=([\d ]+)$", service(), re.MULTILINE) for code in codes.split()}
    assert named <= documented
    assert (ROOT / "docs" / "cron.rst").is_file()
