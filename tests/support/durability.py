"""Recording and failing the durable file operations, one step at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import durable

STEPS = ("make_folder", "open_new", "write_all", "sync", "rename", "sync_folder", "remove")


def record_durable(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path | int]]:
    """Every call of ``durable`` from now on, with its last path (or its descriptor)."""
    calls: list[tuple[str, Path | int]] = []

    def recorded(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls.append((name, arguments[1] if name == "rename" else arguments[0]))
            return real(*arguments)

        return call

    for name in STEPS:
        monkeypatch.setattr(durable, name, recorded(name, getattr(durable, name)))
    return calls


def fail_durable(monkeypatch: pytest.MonkeyPatch, step: str, number: int) -> None:
    """Let this step of ``durable`` fail with this errno."""

    def failing(*arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(durable, step, failing)
