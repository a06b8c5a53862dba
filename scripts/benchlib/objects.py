"""A Swift cluster on the loopback, and what is measured on it: this program, rclone with its encryption, and bare obstore."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .against import Seconds, timed
from .figures import Figure, alternately
from .processes import run, work

CLUSTER = Path(__file__).resolve().parents[1] / "swift-cluster"
PAD_MIB = 4
THREADS = 20
SMALL = 1000  # values of 1 KiB put at once


class Swift:
    """A running cluster; its credentials are in the environment."""

    def __init__(self, folder: Path) -> None:
        told = subprocess.run([CLUSTER, "--folder", folder, "start"], stdout=subprocess.PIPE, text=True, check=True).stdout
        self.url, *exports = told.splitlines()
        os.environ.update(line.removeprefix("export ").split("=", 1) for line in exports)

    def below(self, prefix: str) -> str:
        """The network URL of a prefix."""
        return self.url.replace("?", f"/{prefix}?", 1)

    def rclone(self) -> None:
        """Let rclone know the remote ``sealed:``, by its own environment variables."""
        options = dict(each.split("=", 1) for each in self.url.partition("?")[2].split("&"))
        password = subprocess.run(["rclone", "obscure", "of no use"], stdout=subprocess.PIPE, text=True, check=True).stdout
        remotes = {
            "SWIFT": {"type": "s3", "provider": "Other", "env_auth": "true", **options},
            "SEALED": {"type": "crypt", "remote": "swift:anthill/rclone", "password": password.strip()},
        }
        os.environ["RCLONE_CONFIG"] = os.devnull
        os.environ.pop("AWS_CA_BUNDLE", None)  # rclone 1.60 does not start with it, and nothing here is encrypted on its way
        for remote, settings in remotes.items():
            for name, value in settings.items():
                os.environ[f"RCLONE_CONFIG_{remote}_{name.upper()}"] = value


@contextmanager
def swift(folder: Path) -> Iterator[Swift]:
    """A cluster of its own."""
    try:
        yield Swift(folder)
    finally:
        subprocess.run([CLUSTER, "--folder", folder, "stop"], check=True)


def missing() -> str:
    """What this machine lacks for these measurements; nothing when they can be made."""
    if shutil.which("rclone") is None:
        return "rclone (Debian, Ubuntu: apt install rclone)"
    return "" if shutil.which("python3.11") else "Python 3.11, which Swift needs"


def measure(folder: Path, rounds: int, mib: int) -> list[Figure]:
    """A file of ``mib`` MiB to the cluster and back; what others need for as many bytes; requests."""
    if missing():
        print(f"bench: not measured: object stores, for want of {missing()}", file=sys.stderr)
        return []
    with swift(folder / "swift") as cluster:
        cluster.rclone()
        return [*_transfers(cluster, folder, rounds, mib), *_requests(cluster, folder, mib)]


def _transfers(cluster: Swift, folder: Path, rounds: int, mib: int) -> list[Figure]:
    """rclone gets the same bytes as files of a pad's size, because this server takes no upload in parts."""
    source, parts, back = folder / "source", folder / "parts", folder / "back"
    run("dd", "if=/dev/urandom", f"of={source}", "bs=1M", f"count={mib}", "status=none")
    parts.mkdir()
    run("split", "-b", f"{PAD_MIB}M", source, parts / "part-")
    copy = ["rclone", "copy", "--transfers", THREADS, "--checkers", THREADS, "--s3-upload-cutoff", "5G", "--retries", 1]
    arguments = [str(each) for each in copy]

    def bare_put() -> float:
        return float(work("objects-put", cluster.below("bare"), mib // PAD_MIB, PAD_MIB * 1024**2)["seconds"])

    def bare_get() -> float:
        return float(work("objects-get", cluster.below("bare"))["seconds"])

    def bare_get_into() -> float:
        seconds = float(work("objects-get", cluster.below("bare"), back)["seconds"])
        back.unlink()
        work("objects-remove", cluster.below("bare"))
        return seconds

    def rclone_put() -> float:
        os.sync()
        return run(*arguments, parts, "sealed:").seconds

    def rclone_get() -> Seconds:
        seconds = timed(lambda: run(*arguments, "sealed:", back))
        run("diff", "-r", parts, back)
        shutil.rmtree(back)
        work("objects-remove", cluster.below("rclone"))
        return seconds

    def put() -> float:
        return float(work("put", folder / "home", source, cluster.below("pads"))["seconds"])

    def get() -> float:
        return float(work("get-nowhere", folder / "home")["seconds"])

    def get_into() -> float:
        seconds = float(work("get", folder / "home", back)["seconds"])
        run("cmp", source, back)
        back.unlink()
        shutil.rmtree(folder / "home")
        work("objects-remove", cluster.below("pads"))
        return seconds

    steps = bare_put, bare_get, bare_get_into, rclone_put, rclone_get, put, get, get_into
    bare_puts, bare_gets, bare_files, sealed_puts, sealed_gets, puts, gets, files = alternately(rounds, *steps)
    durable, ended = (tuple(each[way] for each in sealed_gets) for way in (0, 1))
    size = f"{mib} MiB"
    return [
        Figure(f"rclone crypt, {size} to Swift in files of 4 MiB, 20 at once", "s", sealed_puts),
        Figure(f"put of {size} to Swift; ratio to rclone", "s", puts, 1.0, sealed_puts),
        Figure(f"PUT of {size} to Swift in objects of 4 MiB, 20 bare threads of obstore", "s", bare_puts),
        Figure(f"put of {size} to Swift; ratio to bare obstore", "s", puts, 1 / 0.8, bare_puts),
        Figure(f"rclone crypt, {size} from Swift into files, until they are on the disk", "s", durable),
        Figure(f"get of {size} from Swift into a file, durable; ratio to rclone", "s", files, 1.0, durable),
        Figure(f"rclone crypt, {size} from Swift into files, until it ends", "s", ended),
        Figure(f"get of {size} from Swift into a file, durable; ratio to rclone until it ends", "s", files, None, ended),
        Figure(f"GET of {size} from Swift into a file, synced, 20 bare threads of obstore", "s", bare_files),
        Figure(f"get of {size} from Swift into a file, durable; ratio to bare obstore", "s", files, 1 / 0.8, bare_files),
        Figure(f"GET of {size} from Swift into memory, 20 bare threads of obstore", "s", bare_gets),
        Figure(f"get of {size} from Swift, written nowhere; ratio to bare obstore", "s", gets, 1 / 0.8, bare_gets),
    ]


def _requests(cluster: Swift, folder: Path, mib: int) -> list[Figure]:
    """Counted at the library: its own retries are off, so a call is a request."""
    large = work("objects-count", folder / "counted", folder / "source", cluster.below("counted"))
    small = work("objects-small", folder / "small", SMALL, cluster.below("small"))
    return [
        Figure(f"requests per new pad, put of {mib} MiB to Swift", "requests", (large["requests"] / large["pads"],), 2),
        Figure(f"requests for {SMALL:,} values of 1 KiB in one put_many to Swift", "requests", (small["requests"],), 20),
    ]
