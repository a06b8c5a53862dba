"""Modules that are imported when they are first used: a command that lists keys shall not wait for those that move data."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Late:
    """Stands for the module ``name`` of this package."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._module: Any = None

    def __getattr__(self, attribute: str) -> Any:
        if self._module is None:
            self._module = import_module(f".{self._name}", __package__)
        return getattr(self._module, attribute)
