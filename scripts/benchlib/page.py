"""``docs/performance.rst``: the figures, the machine, and how to make both again."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

from . import rivals
from .figures import HEADINGS, Figure
from .limits import LIMITS

LIBRARIES = ("anthill_sync", "cryptography", "blake3", "typer", "tqdm", "obstore")


def machine(folder: Path) -> list[tuple[str, str]]:
    """What the figures depend on besides the program."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return [
        ("processor", f"{_processor()}, {os.cpu_count()} cores"),
        ("memory", f"{memory:.0f} GiB"),
        ("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("file system", _file_system(folder)),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("rivals", rivals.versions() or "none installed"),
        ("libraries", ", ".join(f"{name} {version(name)}" for name in LIBRARIES)),
        ("date", time.strftime("%Y-%m-%d", time.gmtime())),
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _file_system(folder: Path) -> str:
    found = subprocess.run(["df", "-P", folder], capture_output=True, text=True, check=True).stdout.split()[-1]
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    return next((kind for _, place, kind, *_ in reversed(mounts) if place == found), "unknown")


def page(figures: list[Figure], folder: Path, *, quick: bool, only: list[str], name: str) -> str:
    """The whole page, as ``docs/NAME``; ``only``: the groups that were measured, none for all."""
    title = f"Performance: {', '.join(only)}" if 0 < len(only) < 4 else "Performance"
    command = " ".join(["scripts/bench", *(f"--only {group}" for group in only), f"--out docs/{name}"])
    kind = "a quick run, with smaller sizes and fewer rounds: only an impression" if quick else "a full run"
    return f"""{"=" * len(title)}
{title}
{"=" * len(title)}

This page is made by a script, never by hand: ``{command}``.
These figures come from {kind}.

{_list_table(figures)}
* The **median** of all rounds counts; **spread** is the least and the most. What is compared is run in turn.
* The **ratio** is the median over that of the first row of its group; for a slow network, over the least time possible.
* ``dd`` copies the file with 4 MiB blocks and ends with one ``fsync``. A put reads, fingerprints, seals, writes every
  pad and its folder durably, and journals each step; a get reads, opens, and writes a file durably.
* The memory of a command is what the operating system says it held at most, interpreter and libraries included.
* The slow network: reserving a pad takes 50 ms, writing it 100 ms, and 20 of each may run at once.
* Swift is four nodes on the loopback with three replicas (``scripts/swift-cluster``), on the same cores. rclone gets the
  same bytes as files of 4 MiB, because this server takes no upload in parts; it is Debian's.
* The index of the store with many blocks is in memory (``/dev/shm``), so that no disk is measured; its network keeps nothing.


What is possible, and what stands between
=========================================

{_limits(only)}

The machine
===========

{_facts(folder)}

To make them again
==================

::

   scripts/bench                 # print all figures; about 40 minutes, 20 of them for the index, 13 GiB of disk
   scripts/bench --quick         # smaller and shorter
   scripts/bench --check         # exit code 1 when a goal is missed
   scripts/bench --only latency  # one group of them
   scripts/bench --save FILE     # keep the ratios of this run
   scripts/bench --compare FILE  # exit code 1 when one of them has become worse
   {command}
"""


def _list_table(figures: list[Figure]) -> str:
    rows = [HEADINGS, *(figure.cells() for figure in figures)]
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        lines += [f"   {'*' if number == 0 else ' '} - {cell}".rstrip() for number, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def _limits(only: list[str]) -> str:
    return "".join(f"* *{group}*: {text}\n" for group, text in LIMITS.items() if not only or group in only)


def _facts(folder: Path) -> str:
    return "".join(f"* {name}: {value}\n" for name, value in machine(folder))
