"""What a user would pick instead, each as its manual says, with encryption and without compression.

None of them promises more: borg and restic sync what they write, rclone does not. All get the same files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .processes import ANTHILL, run

PASSWORD = "only for the benchmark"


@dataclass(frozen=True)
class Tool:
    """One program that stores a file or a folder in ``place`` and brings it back. ``program``: what must be installed."""

    name: str
    program: str
    prepare: Callable[[Path], None]
    store: Callable[[Path, Path], None]  # place, source
    fetch: Callable[[Path, Path, Path], Path]  # place, source, target folder; where the copy is then


def installed() -> list[Tool]:
    """The rivals that are here, in the order of the page."""
    return [tool for tool in (_BORG, _RCLONE, _RESTIC) if shutil.which(tool.program)]


def _call(*command: str | Path, environment: Mapping[str, str], folder: Path | None = None) -> None:
    run(*command, environment={**os.environ, **environment}, folder=folder)


# -- this program


def _anthill(place: Path, *words: str | Path) -> None:
    run(ANTHILL, "--home", place, *words)


def _anthill_store(place: Path, source: Path) -> None:
    _anthill(place, "put", "value", source, *(["-r"] if source.is_dir() else []))


def _anthill_fetch(place: Path, source: Path, target: Path) -> Path:
    copy = target / source.name
    _anthill(place, "get", "value", copy, *(["-r"] if source.is_dir() else []))
    return copy


OURS = Tool("anthill", ANTHILL, lambda place: _anthill(place, "init"), _anthill_store, _anthill_fetch)


# -- borg


def _borg(place: Path, *words: str | Path, folder: Path | None = None) -> None:
    outside = {"BORG_PASSPHRASE": PASSWORD, "BORG_BASE_DIR": str(place.parent / "borg-own"), "BORG_REPO": str(place)}
    _call("borg", *words, environment=outside, folder=folder)


def _borg_store(place: Path, source: Path) -> None:
    _borg(place, "create", "--compression", "none", "::one", source.name, folder=source.parent)


def _borg_fetch(place: Path, source: Path, target: Path) -> Path:
    _borg(place, "extract", "::one", folder=target)
    return target / source.name


_BORG = Tool("borg", "borg", lambda place: _borg(place, "init", "--encryption", "repokey-blake2"), _borg_store, _borg_fetch)


# -- rclone with crypt


def _rclone(place: Path, *words: str | Path) -> None:
    obscured = "aGVsbG8gYmVuY2htYXJrIC0gdGhpcyBpcyBub3Qgc2VjcmV0"  # as ``rclone obscure`` writes a password
    outside = {
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CONFIG_C_TYPE": "crypt",
        "RCLONE_CONFIG_C_REMOTE": str(place),
        "RCLONE_CONFIG_C_PASSWORD": obscured,
        "RCLONE_TRANSFERS": "20",
    }
    _call("rclone", *words, environment=outside)


def _rclone_store(place: Path, source: Path) -> None:
    _rclone(place, "copy", source, f"c:{source.name}" if source.is_dir() else "c:")


def _rclone_fetch(place: Path, source: Path, target: Path) -> Path:
    _rclone(place, "copy", f"c:{source.name}", target / source.name if source.is_dir() else target)
    return target / source.name


_RCLONE = Tool("rclone crypt", "rclone", lambda place: place.mkdir(), _rclone_store, _rclone_fetch)


# -- restic


def _restic(place: Path, *words: str | Path, folder: Path | None = None) -> None:
    outside = {"RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": str(place), "XDG_CACHE_HOME": str(place.parent / "restic-own")}
    _call("restic", *words, "--quiet", environment=outside, folder=folder)


def _restic_store(place: Path, source: Path) -> None:
    _restic(place, "backup", source.name, folder=source.parent)


def _restic_fetch(place: Path, source: Path, target: Path) -> Path:
    _restic(place, "restore", "latest", "--target", target)
    return target / source.name


_RESTIC = Tool("restic", "restic", lambda place: _restic(place, "init"), _restic_store, _restic_fetch)


def versions() -> str:
    """Which versions were measured, for the page."""
    flags = {"borg": "--version", "rclone": "version", "restic": "version"}
    return ", ".join(_first_line(tool.program, flags[tool.program]) for tool in installed())


def _first_line(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0].strip()
