"""What ``put -r`` leaves out: patterns that mean what git makes of them in a gitignore file. Pure but for reading the files.

Not by a library: the usual one answers for a whole path at once, which differs from git where a directory is excluded and
another pattern takes something in it back. Here a directory that is excluded is not entered, as git does it, so each
pattern is asked about one file or directory only, never about what lies in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import InvalidArgument, SourceNotFound

Excluded = Callable[[str], bool]  # of a path below the root; a directory's ends with a slash

_CLASSES = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "lower": "a-z",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
    "space": r"\s",
    "blank": r" \t",
    "punct": r"!-/:-@\[-`{-~",
    "cntrl": r"\x00-\x1f\x7f",
    "print": " -~",
    "graph": "!-~",
}
_TOKEN = re.compile(
    r"""(?P<any_folders>(?:(?<=/)|^)\*{2,}/)|(?P<all_below>(?:(?<=/)|^)\*{2,}$)|(?P<name>\*+)|(?P<one>\?)|\\(?P<escaped>.)
    |\[(?P<not>[!^]?)(?P<set>(?:\]|\\.|\[:\w+:\]|[^\]\\])(?:\\.|\[:\w+:\]|[^\]\\])*)\]|(?P<bad>[\[\\])|(?P<plain>.)""",
    re.VERBOSE | re.DOTALL,
)
_MEMBER = re.compile(r"\[:(?P<kind>\w+):\]|\\?(?P<low>.)-\\?(?P<high>[^\]])|\\?(?P<only>.)", re.DOTALL)


@dataclass(frozen=True)
class _Pattern:
    """One line."""

    excludes: bool  # False: takes back what earlier patterns exclude
    folders_only: bool
    whole_path: bool  # False: only the last part of a path matters
    expression: re.Pattern[str]

    def matches(self, path: str, name: str, folder: bool) -> bool:
        return (folder or not self.folders_only) and self.expression.fullmatch(path if self.whole_path else name) is not None


def exclusion(patterns: Iterable[str], files: Iterable[Path]) -> Excluded | None:
    """Tells whether a path is left out; None without any pattern. The files' patterns come first, and the last one that
    matches decides. ``InvalidArgument`` quotes a pattern that is none, ``SourceNotFound`` names a file that cannot be read.
    """
    lines = [(line, str(path)) for path in files for line in _lines(path)] + [(line, "--exclude") for line in patterns]
    parsed = [pattern for line, where in lines for pattern in _parsed(line, where)]
    if not parsed:
        return None
    last_first = parsed[::-1]

    def excluded(path: str) -> bool:
        folder, path = path.endswith("/"), path.removesuffix("/")
        name = path.rpartition("/")[2]
        return next((pattern.excludes for pattern in last_first if pattern.matches(path, name, folder)), False)

    return excluded


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text("utf-8-sig", "surrogateescape").split("\n")
    except OSError as error:
        raise SourceNotFound(f"{path}: {error.strerror}") from None


def _parsed(line: str, where: str) -> Iterator[_Pattern]:
    """The line's pattern; nothing for an empty line or a remark."""
    body = re.sub(r"((?:\\.)*)[ \t]*$", r"\1", line.removesuffix("\r")) if line.strip() else ""
    if not body or body.startswith("#"):
        return
    text = body.removeprefix("!")
    bare = text.removesuffix("/")
    if not bare.strip("/"):
        raise InvalidArgument(f"not a pattern in {where}: {line!r}; it names nothing")
    expression = re.compile(_translated(bare.removeprefix("/"), line, where), re.DOTALL)
    yield _Pattern(not body.startswith("!"), text.endswith("/"), "/" in bare, expression)


def _translated(glob: str, line: str, where: str) -> str:
    """The glob as a regular expression. No wildcard but ``**`` between slashes stands for a slash."""
    parts = []
    for token in _TOKEN.finditer(glob):
        kind, text = token.lastgroup, token[0]
        if kind == "bad":
            raise InvalidArgument(f"not a pattern in {where}: {line!r}; a bracket is not closed, or nothing follows a backslash")
        if kind == "set":
            parts.append(_translated_set(token["set"], negated=bool(token["not"])))
        else:
            wild = {"any_folders": "(?:.*/)?", "all_below": ".+", "name": "[^/]*", "one": "[^/]"}
            parts.append(wild.get(kind or "") or re.escape(token["escaped"] or text))
    return "".join(parts)


def _translated_set(members: str, *, negated: bool) -> str:
    """A bracket expression. A range that runs backwards matches nothing."""
    parts = []
    for member in _MEMBER.finditer(members):
        if member["kind"]:
            parts.append(_CLASSES.get(member["kind"], ""))
        elif member["only"]:
            parts.append(re.escape(member["only"]))
        elif member["low"] <= member["high"]:
            parts.append(f"{re.escape(member['low'])}-{re.escape(member['high'])}")
    inside = "".join(parts)
    if negated:
        return f"[^/{inside}]"
    return f"(?!/)[{inside}]" if inside else "(?!)"
