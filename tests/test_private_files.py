"""Files with secrets: nobody else may write them, and read them only where this user cannot help it."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from anthill_sync.errors import PermissionRefused
from anthill_sync.private_files import check_private

from .cli_tools import environment

SOMEBODY = 12345  # a user that is not root


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of a user that is not root."""
    made = tmp_path / "a secret's file"
    made.touch(mode=0o600)
    if os.geteuid() == 0:
        os.chown(made, SOMEBODY, SOMEBODY)
    return made


def check(path: Path) -> None:
    with path.open("rb") as file:
        check_private(file.fileno(), path, "secret")


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_private_file_is_accepted_without_a_word(path: Path, caplog: pytest.LogCaptureFixture, mode: int) -> None:
    path.chmod(mode)
    check(path)
    assert caplog.records == []


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o644, 0o640, 0o604])
def test_a_file_that_others_can_change_or_read_is_refused_and_the_named_chmod_mends_it(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(PermissionRefused, match="chmod 600") as caught:
        check(path)
    command = str(caught.value).partition("chmod")[2].partition(", or")[0]
    subprocess.run(["sh", "-c", f"chmod{command}"], check=True)
    check(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of root")
def test_a_secret_of_root_that_others_can_read_is_accepted_with_a_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.chown(path, 0, 0)
    path.chmod(0o444)
    check(path)
    assert [(record.levelno, str(path) in record.message) for record in caplog.records] == [(logging.WARNING, True)]
    path.chmod(0o446)
    with pytest.raises(PermissionRefused):
        check(path)


ON_A_READ_ONLY_MOUNT = """
import logging, sys
from pathlib import Path
from anthill_sync.private_files import check_private
logging.basicConfig(stream=sys.stdout, format="%(levelname)s")
path = Path(sys.argv[1])
with path.open("rb") as file:
    check_private(file.fileno(), path, "secret")
"""


def mounted(path: Path, how: str) -> subprocess.CompletedProcess[str]:
    """Check the file with its folder mounted onto itself, in a mount namespace that ends with the process."""
    folder = shlex.quote(str(path.parent))
    check = shlex.join([sys.executable, "-c", ON_A_READ_ONLY_MOUNT, str(path)])
    script = f"mount --bind {folder} {folder} && mount -o remount,bind,{how} {folder} || exit 99; {check}"
    return subprocess.run(["unshare", "-m", "sh", "-c", script], env=environment(), capture_output=True, text=True, check=False)


def test_a_secret_on_a_read_only_mount_that_others_can_read_is_accepted_with_a_warning(path: Path) -> None:
    path.chmod(0o444)
    writable = mounted(path, "rw")
    if writable.returncode == 99 or "unshare" in writable.stderr:
        pytest.skip("this user may not mount")
    assert "PermissionRefused" in writable.stderr
    done = mounted(path, "ro")
    assert (done.returncode, done.stdout, done.stderr) == (0, "WARNING\n", "")


def test_what_a_pipe_holds_is_as_private_as_who_made_it() -> None:
    read_end, write_end = os.pipe()
    check_private(read_end, Path("/dev/fd/9"), "secret")
    os.close(read_end)
    os.close(write_end)
