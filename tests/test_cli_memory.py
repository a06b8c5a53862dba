"""Commands that move whole pads keep few heaps."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

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
