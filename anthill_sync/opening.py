"""``store.open(key)``: a value as a file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Literal, overload

from .entries import check_key, value_of
from .errors import InvalidArgument, KeyExists
from .events import Confirm, OnEvent
from .handles import TextWriter, ValueReader, ValueWriter
from .putting import PutOptions, put_many
from .reader import Reader
from .session import Session
from .settings import KIB
from .sources import BytesSource, SpooledSource
from .summaries import Entry

READ_BUFFER = 64 * KIB  # bytes

ReadText = Literal["r", "rt", "tr"]
WriteText = Literal["w", "wt", "tw", "x", "xt", "tx"]
ReadBytes = Literal["rb", "br"]
WriteBytes = Literal["wb", "bw", "xb", "bx"]


def parse_mode(mode: str) -> tuple[str, bool]:
    """r, w or x, and whether it is text; ``InvalidArgument`` says which modes there are."""
    letters = set(mode)
    if letters & set("a+"):
        raise InvalidArgument(
            f"mode {mode!r}: a value is replaced whole, so it cannot be changed in place: read it, then write it"
        )
    kinds = letters & set("rwx")
    if len(letters) != len(mode) or letters - set("rwxbt") or len(kinds) != 1 or {"b", "t"} <= letters:
        raise InvalidArgument(f"mode {mode!r} is none of r, w, x, rb, wb, xb")
    return kinds.pop(), "b" not in letters


class ValueOpener:
    """``store.open(key, mode)``, as the builtin ``open``: mode ``r``, ``w``, ``x`` (text, UTF-8 unless ``encoding`` says
    otherwise), ``rb``, ``wb``, ``xb``.

    A reader is seekable, reads the version that was the current one when it was opened, and gets only the chunks it
    needs. What is written is published, all of it, by ``close`` or by the end of a ``with`` block that no exception
    leaves; ``discard()`` leaves the old value. ``x`` fails with ``KeyExists`` when the key has a value, now or when
    it is published. ``confirm``, ``on_event``, ``max_pads`` and ``attributes`` are those of ``put``.
    """

    def __init__(self, session: Session, reader: Reader) -> None:
        self._session, self._reader = session, reader

    @overload
    def __call__(
        self,
        key: str,
        mode: ReadText = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> io.TextIOWrapper: ...
    @overload
    def __call__(
        self,
        key: str,
        mode: WriteText,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        confirm: Confirm | None = None,
        on_event: OnEvent | None = None,
        max_pads: int | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> TextWriter: ...
    @overload
    def __call__(self, key: str, mode: ReadBytes, buffering: Literal[0]) -> ValueReader: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, key: str, mode: ReadBytes, buffering: int = -1) -> io.BufferedReader: ...
    @overload
    def __call__(
        self,
        key: str,
        mode: WriteBytes,
        buffering: int = -1,
        *,
        confirm: Confirm | None = None,
        on_event: OnEvent | None = None,
        max_pads: int | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> ValueWriter: ...
    @overload
    def __call__(
        self,
        key: str,
        mode: str,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        **put: Any,
    ) -> Any: ...
    def __call__(
        self,
        key: str,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        **put: Any,
    ) -> Any:
        """Open the value of ``key``."""
        kind, text = parse_mode(mode)
        if not text and (encoding, errors, newline) != (None, None, None):
            raise InvalidArgument(f"mode {mode!r} takes no encoding, errors or newline: they are for text")
        if kind == "r" and put:
            raise InvalidArgument(f"mode {mode!r} takes no {', '.join(put)}: that is for a value that is written")
        how = _text(buffering, encoding, errors, newline) if text else None
        if kind == "r":
            return self._read(check_key(key), buffering, how)
        writer = self._write(check_key(key), kind == "x", **put)
        return writer if how is None else _as_text(writer, how)

    def _read(self, key: str, buffering: int, how: Mapping[str, Any] | None) -> io.IOBase:
        raw = ValueReader(self._session, self._reader, key, value_of(self._session.index(), key))
        if buffering == 0:
            return raw
        buffered = io.BufferedReader(raw, buffering if buffering > 1 else READ_BUFFER)
        return buffered if how is None else io.TextIOWrapper(buffered, **how)

    def _write(
        self,
        key: str,
        if_absent: bool,
        confirm: Confirm | None = None,
        on_event: OnEvent | None = None,
        max_pads: int | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> ValueWriter:
        session = self._session
        session.check_writable()
        if if_absent and key in session.index().values:
            raise KeyExists(f"{key!r} has a value already", key=key)
        options = PutOptions(if_absent, confirm, on_event, max_pads, {key: attributes} if attributes else None)

        def publish(source: BytesSource | SpooledSource) -> Entry:
            return put_many(session, [(key, source)], options)[key]

        return ValueWriter(session, key, publish)


def _as_text(writer: ValueWriter, how: Mapping[str, Any]) -> TextWriter:
    try:
        return TextWriter(writer, **how)
    except BaseException:  # an unknown encoding
        writer.discard()
        raise


def _text(buffering: int, encoding: str | None, errors: str | None, newline: str | None) -> Mapping[str, Any]:
    """What a ``TextIOWrapper`` takes. UTF-8, not the locale's encoding: another machine may read the value."""
    if buffering == 0:
        raise InvalidArgument("text cannot be unbuffered")
    if newline not in (None, "", "\n", "\r", "\r\n"):
        raise InvalidArgument(f"newline {newline!r} is none of None, '', '\\n', '\\r', '\\r\\n'")
    return {"encoding": encoding or "utf-8", "errors": errors, "newline": newline, "line_buffering": buffering == 1}
