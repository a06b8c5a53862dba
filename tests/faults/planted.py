"""Secrets planted into a store's life, and that life: everything that may happen to it, and all that is heard of it."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from anthill_sync.committer import Committer
from anthill_sync.server import PadServer
from tests.cli_tools import Result, Shell

from .canaries import Canary, Places
from .proxy import Asked, Plan, Proxy, nothing, storm, whole
from .scenarios import CHUNK


def word(chance: random.Random) -> str:
    """Nothing else has this name."""
    return "".join(chance.choices(string.ascii_letters, k=24))


@dataclass(repr=False)  # or it would itself show what is looked for
class Plant:
    """What is to stay secret in one run, put into files that the commands read."""

    folder: Path
    chance: random.Random
    names: dict[str, str] = field(default_factory=dict)  # by their use
    values: dict[str, bytes] = field(default_factory=dict)
    passphrase: str = ""

    def __post_init__(self) -> None:
        self.passphrase = word(self.chance) + " ä " + word(self.chance)
        (self.folder / "passphrase").write_text(self.passphrase + "\n", "utf-8")
        for use, size in {"large": 4 * CHUNK + 700, "small": 500, "old": 2 * CHUNK, "lost": 6 * CHUNK, "tree": 900}.items():
            self.names[use] = word(self.chance)
            self.values[use] = self.chance.randbytes(size - 60) + word(self.chance).encode()
            self.file(use).parent.mkdir(exist_ok=True)
            self.file(use).write_bytes(self.values[use])

    def file(self, use: str) -> Path:
        return self.folder / f"source-{use}" / self.names[use]

    def canaries(self) -> dict[str, list[Canary]]:
        """All but the key's, by kind."""
        pieces = [
            Canary(f"value of {use} at {place}", data[place : place + 32])
            for use, data in self.values.items()
            for place in (0, len(data) // 2, len(data) - 60, len(data) - 24)
        ]
        names = [Canary(f"name of {use}", name.encode()) for use, name in self.names.items()]
        return {"value": pieces, "name": names, "passphrase": [Canary("passphrase", self.passphrase.encode())]}


class Life:
    """A store on a server, through everything that may happen to it."""

    def __init__(self, plant: Plant, server: PadServer, proxy: Proxy, data: Path) -> None:
        self.plant, self.proxy, self.data = plant, proxy, data
        self.places = Places()
        self.shell = Shell(plant.folder / "home")
        self.log = plant.folder / "log"
        proxy.wire = bytearray()
        elsewhere = whole(b"", "302 Found", "Location: http://127.0.0.1:9/")
        proxy.says = {"full": whole(b"", "507 Full", f"Anthill-Server: {server.server_id}"), "elsewhere": elsewhere}

    def do(
        self, *words: object, code: int = 0, stdin: bytes = b"", plan: Plan = nothing, passphrase: str = "passphrase"
    ) -> Result:
        """One command, as talkative as can be; what it says is kept."""
        self.proxy.reset(plan)
        options = ("-vv", "--log-file", self.log, "--passphrase-file", self.plant.folder / passphrase)
        result = self.shell(*words, *options, stdin=stdin)
        assert result.code == code, result
        self.places.add("stderr", result.err.encode())
        return result

    def say(self, *words: object, **how: Any) -> None:
        """The same, of a command whose output is for people."""
        self.places.add("stdout", self.do(*words, **how).data)

    def store(self) -> None:
        name, file, values = self.plant.names, self.plant.file, self.plant.values
        self.say("init", "--network", self.proxy.url, "--pad-size", "16KiB")
        self.say("put", name["large"], file("large"), "--json")
        self.say("put", name["small"], "-", stdin=values["small"])
        self.say("put", name["old"], file("old"), "--progress", "json")
        self.say("put", name["old"], file("small"), "--progress", "plain")
        self.say("put", name["tree"], file("tree").parent, "-r")

    def ask(self) -> None:
        name, out = self.plant.names, self.plant.folder / "out"
        for words in ("ls -l", "usage", "usage --json", "config", "check --read-data", "ls --pending", "reserve 3", "trim"):
            self.say(*words.split())
        self.say("stat", name["large"], "--json")
        out.mkdir()
        self.do("get", name["large"], out / "file")
        self.do("get", name["tree"], out / "tree", "-r")
        assert self.do("get", name["small"]).data == self.plant.values["small"]
        self.places.add_files("restored files", out)

    def interrupt(self) -> None:
        name, file = self.plant.names, self.plant.file
        for end in ("resume", "abandon"):
            self.say("put", name["lost"], file("lost"), code=73, plan=storm(4, 10**6, "full"))
            self.say("ls", "--pending")
            self.say(end)
            self.do("rm", name["lost"], "--ignore-missing")

    def leave_over(self) -> None:
        """A removal that cannot be finished, and a put that tries it again in vain: only the log tells."""
        name, file = self.plant.names, self.plant.file
        self.say("mv", name["old"], name["old"] + "moved")
        self.say("rm", name["old"] + "moved", code=75, plan=storm(1, 10**6, "full"))
        self.say("put", name["small"], file("tree"), plan=after_the_first_put("full"))
        assert b"old names or data" in self.log.read_bytes()

    def fail(self) -> None:
        name, file = self.plant.names, self.plant.file
        (self.plant.folder / "wrong").write_text(word(self.plant.chance))
        self.say("ls", code=77, passphrase="wrong")
        self.say("get", name["lost"], code=66)
        self.say("put", name["lost"], self.plant.folder / "nowhere", code=66)
        self.say("put", name["lost"] + "/../x", file("lost"), code=64)
        self.say("put", name["lost"], file("lost"), code=76, plan=storm(1, 10**6, "elsewhere"))
        self.say("put", name["lost"], file("lost"), "--json", code=75, plan=storm(4, 10**6, "refused"))
        self.say("rm", name["large"], name["tree"], name["lost"], code=66)

    def damage(self) -> None:
        """Every sealed byte on the server is changed."""
        kept = {path: path.read_bytes() for path in self.data.rglob("*") if len(path.name) == 64}
        for path, data in kept.items():
            path.write_bytes(data[:40] + bytes(byte ^ 1 for byte in data[40:]))
        self.say("get", self.plant.names["large"], self.plant.folder / "damaged", code=65)
        self.say("check", "--read-data", code=65)
        for path, data in kept.items():
            path.write_bytes(data)

    def meet_bugs(self, patch: pytest.MonkeyPatch) -> None:
        """Bugs, also with words of their own that are secret; and the log that users are asked to send."""
        put = ("put", self.plant.names["small"], self.plant.file("large"))
        for error in (ZeroDivisionError("a bug"), KeyError(self.plant.names["large"]), ValueError(self.plant.values["small"])):
            with patch.context() as context:
                context.setattr(Committer, "send", raising(error))
                self.say(*put, code=70)
                self.proxy.reset(nothing)
                assert self.shell(*put, "--passphrase-file", self.plant.folder / "passphrase").code == 70
        self.places.add("log of a bug", (self.shell.home / "anthill.log").read_bytes())


def raising(error: Exception) -> Callable[..., object]:
    def fail(*arguments: object, **more: object) -> object:
        raise error

    return fail


def after_the_first_put(fault: str) -> Plan:
    """The first image is taken; then nothing more goes."""
    seen: list[Asked] = []

    def plan(asked: Asked) -> str | None:
        gone = bool(seen)
        if asked.method == "PUT":
            seen.append(asked)
        return fault if gone else None

    return plan
