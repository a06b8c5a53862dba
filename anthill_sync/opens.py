"""``Store.open(home)`` opens a store, ``store.open(key)`` one of its values: one name, as both are what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, overload

if TYPE_CHECKING:
    from pathlib import Path

    from .opening import ValueOpener
    from .store import Store


class StoreOpener(Protocol):
    """``Store.open``."""

    def __call__(
        self,
        home: str | Path | None = None,
        *,
        passphrase: str | None = None,
        lock_wait: float = 0.0,
        read_only: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> Store: ...


class Opens:
    """The attribute ``open``: of the class ``open_store``, of a store its ``ValueOpener``."""

    def __init__(self, open_store: Callable[[Any], StoreOpener], open_value: Callable[[Any], ValueOpener]) -> None:
        self._open_store, self._open_value = open_store, open_value

    @overload
    def __get__(self, store: None, kind: type[Store]) -> StoreOpener: ...
    @overload
    def __get__(self, store: Store, kind: type[Store]) -> ValueOpener: ...
    def __get__(self, store: Store | None, kind: type[Store]) -> StoreOpener | ValueOpener:
        return self._open_store(kind) if store is None else self._open_value(store)
