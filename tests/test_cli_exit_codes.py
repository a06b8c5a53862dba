"""One walk through the whole table of exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .cli_tools import LAUNCHER, PATIENCE, Gate, environment, make_shell, run, secret_file, spawn


class Table:
    """A store with one value ``k`` and what is needed to fail on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shell = make_shell(folder / "home")
        self.source = folder / "source"
        self.source.write_bytes(os.urandom(40_000))
        self.shell.ok("put", "k", self.source)

    def code(self, *arguments: object, **env: str) -> int:
        """Of one command in a process of its own; every failure says one line that begins with our name."""
        result = self.shell.run(*arguments, program=LAUNCHER, env=environment(ANTHILL_ATTEMPTS="1", **env))
        assert (result.err == "") == (result.code == 0), result
        assert not result.err or result.err.splitlines()[-1].startswith("anthill: ")
        assert "Traceback" not in result.err
        return result.code

    def damaged(self) -> int:
        for path in (self.shell.home / "pads").rglob("*"):
            if path.is_file() and path.stat().st_size > 2000:
                data = bytearray(path.read_bytes())
                data[500] ^= 1
                path.write_bytes(data)
        return self.code("get", "k", self.folder / "out")

    def partly(self) -> int:
        tree = self.folder / "tree"
        tree.mkdir()
        (tree / "good").touch()
        with open(os.fsencode(tree) + b"/\xff", "wb"):
            pass
        return self.code("put", "tree", tree, "-r")

    def locked(self) -> int:
        gate = Gate(self.folder / "gate")
        with spawn("--home", self.shell.home, "put", "x", self.source, program=LAUNCHER, env=gate.env) as other:
            gate.wait()
            code = self.code("put", "y", self.source, "--lock-wait", "0")
            gate.open()
            assert other.wait(PATIENCE) == 0
        return code

    def gone_network(self) -> int:
        os.rename(self.shell.home / "pads", self.folder / "elsewhere")
        return self.code("put", "x", self.source)

    def another_writer(self) -> int:
        """Yesterday's index over today's network."""
        index = [self.shell.home / name for name in ("index.json", "index.journal")]
        yesterday = [path.read_bytes() for path in index]
        self.shell.ok("put", "today", "-", stdin=b"1")
        for path, data in zip(index, yesterday, strict=True):
            path.write_bytes(data)
        (self.folder / "tiny").write_bytes(b"2")  # goes into the pad that has room, where today's value is
        return self.code("put", "other", self.folder / "tiny")

    def full_disk(self) -> int:
        with open("/dev/full", "wb") as full, spawn("--home", self.shell.home, "ls", stdout=full, stderr=subprocess.PIPE) as p:
            p.stderr.read()
        return int(p.returncode)

    def wrong_passphrase(self) -> int:
        secret_file(self.folder / "pass", "right\n")
        secret_file(self.folder / "wrong", "wrong\n")
        other = make_shell(self.folder / "other", "--passphrase-file", self.folder / "pass")
        return other.run("ls", "--passphrase-file", self.folder / "wrong").code

    def signalled(self, number: int) -> int:
        gate = Gate(self.folder / "gate")
        with spawn("--home", self.shell.home, "put", "x", self.source, program=LAUNCHER, env=gate.env, stderr=-3) as process:
            gate.wait()
            process.send_signal(number)
            process.wait(PATIENCE)
        return 128 - int(process.returncode) if process.returncode < 0 else 0  # as shells count

    def closed_stdout(self) -> int:
        read_end, write_end = os.pipe()
        os.close(read_end)
        with spawn("--home", self.shell.home, "ls", stdout=write_end) as process:
            process.wait(PATIENCE)
        os.close(write_end)
        return int(process.returncode)

    def no_store(self) -> int:
        return run("--home", self.folder / "nowhere", "ls").code

    def always_ask(self) -> int:
        self.shell.ok("config", "confirm", "always")
        return self.code("put", "x", self.source)


TABLE: list[tuple[int, str, Callable[[Table], int]]] = [
    (0, "done", lambda t: t.code("ls")),
    (3, "if absent", lambda t: t.code("put", "k", t.source, "--if-absent")),
    (4, "partly", Table.partly),
    (64, "unknown option", lambda t: t.code("ls", "--nonsense")),
    (64, "bad key", lambda t: t.code("put", "a//b", t.source)),
    (64, "bad size", lambda t: t.code("get", "k", "--offset", "x")),
    (65, "damaged block", Table.damaged),
    (66, "no such key", lambda t: t.code("get", "nothing")),
    (66, "no such source", lambda t: t.code("put", "x", t.folder / "nothing")),
    (69, "network gone", Table.gone_network),
    (70, "a bug", lambda t: t.code("usage", BUG="1")),
    (73, "max pads", lambda t: t.code("put", "x", t.source, "--max-pads", "0")),
    (73, "init over a store", lambda t: t.code("init")),
    (73, "destination there", lambda t: t.code("get", "k", t.source)),
    (73, "stdout full", Table.full_disk),
    (75, "locked", Table.locked),
    (76, "another writer", Table.another_writer),
    (77, "wrong passphrase", Table.wrong_passphrase),
    (78, "no store", Table.no_store),
    (78, "unknown setting", lambda t: t.code("config", "nonsense", "1")),
    (78, "bad URL", lambda t: t.code("init", "--home", t.folder / "new", "--network", "nonsense://x")),
    (78, "nobody to ask", Table.always_ask),
    (130, "SIGINT", lambda t: t.signalled(signal.SIGINT)),
    (143, "SIGTERM", lambda t: t.signalled(signal.SIGTERM)),
    (129, "SIGHUP", lambda t: t.signalled(signal.SIGHUP)),
    (141, "closed stdout", Table.closed_stdout),
]


@pytest.mark.parametrize(("code", "step"), [(c, s) for c, _, s in TABLE], ids=[f"{c}-{name}" for c, name, _ in TABLE])
def test_the_table_of_exit_codes(tmp_path: Path, code: int, step: Callable[[Table], int]) -> None:
    assert step(Table(tmp_path)) == code
