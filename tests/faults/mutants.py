"""Mutants: the program with one sync, rename, lock, comparison or associated-data field taken out.

They are generated from the source, so a safeguard that is added tomorrow is taken out too. ``WATCHERS`` names the tests
that must notice; ``HARMLESS`` the mutants that need not be noticed, each with the reason.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "anthill_sync"
PATIENCE = 240  # seconds that watchers get; a mutant that hangs is noticed too

SYNCS = {"sync", "sync_folder", "fsync", "fdatasync", "flush_folder"}
RENAMES = {"rename", "replace_file", "link", "keep"}
LOCKS = {"flock"}
COMPARISONS = re.compile("compare|check_unchanged|check_replaced|check_writable|_check_|check_flock|check_seal")
DAMAGE = re.compile(
    "BlockDamaged|IndexDamaged|AnotherWriter|RolledBack|PadConflict|UnknownFormat|ImpossibleRecord|_damaged|ProtocolError|SourceChanged"
    "|IncompleteSource"
)
SEALED_FIELDS = {"_BLOCK_DATA", "_TABLE_DATA"}  # structs of associated data: each argument of ``pack`` is a field


@dataclass(frozen=True)
class Mutant:
    """``source[start:end]`` of ``module`` becomes ``instead``; ``name`` says what is gone, and stays when lines move."""

    kind: str
    module: str  # relative to the package, without .py
    name: str
    start: int
    end: int
    instead: str

    def __str__(self) -> str:
        return f"{self.module}: {self.name}"


def mutants() -> list[Mutant]:
    """Every mutant there is, in the order of the source."""
    return [mutant for path in sorted(PACKAGE.rglob("*.py")) for mutant in _of_module(path)]


def _of_module(path: Path) -> Iterator[Mutant]:
    text, module = path.read_text("utf-8"), str(path.relative_to(PACKAGE).with_suffix(""))
    starts = [0]
    for line in text.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for function, node in _nodes(ast.parse(text)):
        for kind, target, instead in _changes(node):
            assert target.end_lineno is not None
            assert target.end_col_offset is not None
            start = starts[target.lineno - 1] + target.col_offset
            end = starts[target.end_lineno - 1] + target.end_col_offset
            words = " ".join(text.encode()[start:end].decode().split())
            yield Mutant(kind, module, f"{words} in {function}", start, end, instead)


def _nodes(tree: ast.AST, inside: str = "the module") -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(tree):
        name = child.name if isinstance(child, (ast.FunctionDef, ast.ClassDef)) else inside
        yield name, child
        yield from _nodes(child, name)


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.expr | ast.stmt, str]]:
    """(kind, what to replace, by what) of one node."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        kind = _kind_of_call(_called(node.value))
        if kind:
            yield kind, node, "pass"
    elif isinstance(node, ast.If) and isinstance(node.body[0], ast.Raise) and DAMAGE.match(_raised(node.body[0])):
        yield "compare", node.test, "False"
    elif isinstance(node, ast.Call) and ast.unparse(node.func).removesuffix(".pack") in SEALED_FIELDS:
        for field in node.args:
            yield "associated data", field, "0" if ast.unparse(field) == "chunk" else 'b""'
    elif isinstance(node, ast.BinOp) and any(struct in ast.unparse(node.left) for struct in SEALED_FIELDS):
        yield "associated data", node.right, 'b""'


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)


def _kind_of_call(name: str) -> str | None:
    for kind, names in (("fsync", SYNCS), ("rename", RENAMES), ("flock", LOCKS)):
        if name in names:
            return kind
    return "compare" if COMPARISONS.match(name) else None


def _raised(statement: ast.Raise) -> str:
    return _called(statement.exc) if isinstance(statement.exc, ast.Call) else ""


# -- which tests notice

CONTRACT = ["tests/test_network_contract.py"]

# By beginning of "module: name"; the longest match counts. Several words: files, then -k and its expression.
WATCHERS: dict[str, list[str]] = {
    "cli_data": ["tests/test_cli.py"],
    "cli_sources": ["tests/test_cli_command.py"],
    "cli_pictures": ["tests/test_pictures.py"],
    "committer": ["tests/faults/test_swaps.py"],
    "committer: self.pads.compare(pad, self.pads.read_header(pad)[0], counter) in look": [
        "tests/faults/test_restored_backup.py",
        "-k",
        "outlives",
    ],
    "composing: len(batch": ["tests/test_composing.py"],
    "composing: upload": ["tests/test_store_sources.py"],
    "config": ["tests/test_config.py", "tests/test_cli_state.py"],
    "creating": ["tests/test_creating.py", "tests/test_cli_state.py"],
    "durable": [
        "tests/test_journal_checkpoints.py",
        "tests/test_networks_directory_faults.py",
        "tests/faults/test_power_loss.py",
    ],
    "download": ["tests/test_config.py"],
    "durable: link(path": ["tests/test_recovery.py", "tests/test_recovery_damage.py"],
    "durable: os.link": ["tests/test_recovery.py", "tests/test_recovery_damage.py"],
    "durable: sync_folder(path.parent) in keep": ["tests/test_durable.py"],
    "filesystem": ["tests/test_filesystem.py", "tests/test_filesystem_sharing.py"],
    "handles": ["tests/test_store_open.py", "tests/test_store_open_writing.py", "tests/test_store_open_failing.py"],
    "journal": [
        "tests/test_journal.py",
        "tests/test_journal_checkpoints.py",
        "tests/test_journal_damage.py",
        "tests/faults/test_power_loss.py",
    ],
    "lock": ["tests/test_lock.py", "tests/faults/test_fork.py"],
    "networks/directory": [
        "tests/test_networks_directory.py",
        "tests/test_networks_directory_faults.py",
        "tests/test_networks_directory_writers.py",
        *CONTRACT,
    ],
    "networks/http": ["tests/test_networks_http.py", *CONTRACT],
    "networks/memory": CONTRACT,
    "networks/object_calls": ["tests/test_networks_objects.py", "tests/test_object_stores.py", *CONTRACT],
    "networks/transport": ["tests/test_networks_http.py"],
    "opening": ["tests/test_store_open_writing.py", "tests/test_store_open_failing.py"],
    "putting": ["tests/test_store_values.py", "tests/test_store_keys.py"],
    "putting: _check_absent(session.index(), sizes) in estimate": ["tests/test_cli_estimate.py"],
    "reader": ["tests/test_store_check.py"],
    "recovery": ["tests/test_recovery.py", "tests/test_recovery_damage.py"],
    "recovery_home": ["tests/test_recovery_home.py"],
    "server_archive": ["tests/test_server_api.py"],
    "reopening": ["tests/test_store_pickle.py"],
    "session: self._check_may_write() in replace": ["tests/test_recovery.py"],
    "session": ["tests/test_store_closing.py", "tests/faults/test_fork.py"],
    "takeover": ["tests/test_takeover.py", "tests/faults/test_weak_spots.py", "tests/faults/test_races.py"],
    "trees_restore": ["tests/test_destinations.py", "tests/test_cli_trees.py"],
    "writing": ["tests/test_store_sources.py"],
}

HARMLESS: dict[str, str] = {}


def watchers(mutant: Mutant) -> list[str]:
    """The arguments of pytest that must fail."""
    found = [prefix for prefix in WATCHERS if str(mutant).startswith(prefix)]
    if found:
        return WATCHERS[max(found, key=len)]
    stem = mutant.module.replace("/", "_")
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").glob(f"test_{stem}*.py"))


def survives(mutant: Mutant, folder: Path) -> bool:
    """True when no watcher fails on a copy of the project with this mutant in it."""
    with _copy(folder) as place:
        target = place / "anthill_sync" / f"{mutant.module}.py"
        source = target.read_bytes()
        target.write_bytes(source[: mutant.start] + mutant.instead.encode() + source[mutant.end :])
        return _pytest(place, watchers(mutant)) == 0


def pass_unchanged(arguments: list[str], folder: Path) -> bool:
    """True when these watchers find nothing wrong with a copy that nothing was taken out of."""
    with _copy(folder) as place:
        return _pytest(place, arguments) == 0


@contextmanager
def _copy(folder: Path) -> Iterator[Path]:
    place = folder / "copy"
    place.mkdir(parents=True)
    for name in (
        "anthill_sync",
        "tests",
        "setup.cfg",
        "setup.py",
        "pyproject.toml",
        "README.rst",
        "CHANGELOG.rst",
        "docs",
        "scripts",
    ):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place / name)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _pytest(place: Path, arguments: list[str]) -> int:
    """The exit code; 1 means that a test failed. Anything but 0 and 1 is a fault of this file."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={place}/tmp"]
    command += ["-m", "not cluster"]  # a store of its own would be installed for each copy, for minutes
    outside = {"PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST"}
    environment = {
        name: value for name, value in os.environ.items() if name not in outside and not name.startswith("PYTEST_XDIST")
    }
    environment["PYTHONPATH"] = str(place)
    try:
        done = subprocess.run(
            [*command, *arguments], cwd=place, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return 1
    assert done.returncode in (0, 1), (
        f"{arguments}: pytest ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    )
    return done.returncode
