"""Commands that move whole pads keep few heaps, and collect garbage seldom while they run."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import cli_data

from .cli_tools import make_shell

HEAPS = """
import ctypes, sys, threading
from anthill_sync.cli_memory import share_heaps
if sys.argv[1] == "shared":
    share_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
libc.fopen.restype, libc.fclose.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
libc.malloc_info.argtypes = (ctypes.c_int, ctypes.c_void_p)
all_there = threading.Barrier(8)
def allocate():
    all_there.wait()
    libc.malloc(1000)
    all_there.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, file)
libc.fclose(file)
"""


def heaps(kind: str, path: Path) -> int:
    subprocess.run([sys.executable, "-c", HEAPS, kind, path], check=True)
    return path.read_text().count("<heap ")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no heap for each thread")
def test_threads_share_two_heaps(tmp_path: Path) -> None:
    assert heaps("of their own", tmp_path / "many") > 2
    assert heaps("shared", tmp_path / "few") <= 2


def test_a_put_leaves_the_collector_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever calls the command in a process of their own goes on with its garbage collected as before."""
    shell, before, seen = make_shell(tmp_path / "home"), (gc.get_threshold(), gc.get_freeze_count()), []
    put_one = cli_data._put_one

    def noting(*args: Any, **how: Any) -> None:
        seen.append(gc.get_threshold())
        put_one(*args, **how)

    monkeypatch.setattr(cli_data, "_put_one", noting)
    shell.ok("put", "k", "-", stdin=b"value")
    assert shell("put", "k", tmp_path / "nothing").code == 66
    assert [threshold[0] > before[0][0] for threshold in seen] == [True, True]
    assert (gc.get_threshold(), gc.get_freeze_count()) == before
