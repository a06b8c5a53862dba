"""Imports point down only, every library has its rooms, and files are written in one place."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

import anthill_sync

ROOT = Path(__file__).resolve().parent.parent / "anthill_sync"

# From the top down. A module may import from its own layer and from those below it.
LAYERS = [
    (
        "command line and other people's interfaces",
        [
            "__main__",
            "cli",
            "cli_*",
            "completions",
            "console",
            "filesystem*",
            "progress",
            "pictures",
            "render",
            "trees",
            "trees_*",
            "server",
            "server_*",
        ],
    ),
    (
        "store",
        [
            "__init__",
            "store",
            "*opening",
            "handles",
            "putting",
            "removing",
            "reader",
            "opens",
            "checking",
            "checking_rounds",
            "creating",
            "drilling",
            "keyfile",
            "recovery*",
            "repair*",
        ],
    ),
    ("session", ["session", "machine", "config", "entries", "destinations", "spool"]),
    ("allocator", ["allocator", "planning", "writing", "rewriting", "takeover", "usage"]),
    ("uploading", ["shared_pads", "composing", "units", "reading", "uploads", "committer", "supply"]),
    ("pipeline", ["download", "pipeline", "operation"]),
    ("pads and journal", ["pads", "image", "journal", "groupcommit", "lines", "lock"]),
    ("pure rooms", ["index", "values", "packing", "memory_map", "space", "sealing", "keys", "keylocks", "paper", "sources"]),
    ("networks", ["networks/*"]),
    (
        "ground",
        [
            "errors",
            "events",
            "settings",
            "summaries",
            "reports",
            "durable",
            "private_files",
            "threads",
            "rates",
            "late",
            "collector",
        ],
    ),
]

# Where each library may be imported.
LIBRARIES = {
    "requests": ["networks/*"],
    "urllib3": ["networks/*"],
    "obstore": ["networks/*"],
    "backoff": ["networks/retrying"],
    "cheroot": ["server"],
    "fsspec": ["filesystem", "filesystem_looking"],
    "tqdm": ["progress"],
    "typer": ["cli", "cli_*", "console"],
    "cryptography": ["keys", "sealing", "pads", "server", "server_*"],  # the server checks the pads' signatures
    "platformdirs": ["config"],
    "blake3": ["sealing", "lines", "networks/*", "server", "server_*"],
}

# Who changes files by itself, and how. Everybody else asks ``durable``.
CHANGES = {
    *("fsync", "fdatasync", "replace", "rename", "write", "writev", "pwrite", "unlink", "remove", "rmdir", "link", "symlink"),
    *("mkdir", "makedirs", "truncate", "ftruncate", "utime", "chmod", "fchmod", "mkfifo", "mknod", "sendfile"),
}
CHANGERS = {
    "durable": CHANGES,
    "destinations": {"ftruncate", "link"},
    # relative to a folder's descriptor, which ``durable`` does not know
    "trees_restore": {"mkdir", "symlink", "makedirs", "utime", "fchmod", "replace", "unlink", "fsync"},
}


def modules() -> list[str]:
    return sorted(str(path.relative_to(ROOT).with_suffix("")) for path in ROOT.rglob("*.py"))


@cache
def tree(module: str) -> ast.Module:
    return ast.parse((ROOT / f"{module}.py").read_text("utf-8"))


def imported(module: str) -> Iterator[tuple[str, bool]]:
    """(name, is it ours) of everything a module imports, wherever in it; but what only a type checker reads."""
    for_types = [part for node in ast.walk(tree(module)) if is_for_types(node) for part in vars(node)["body"]]
    unread = {id(inner) for part in for_types for inner in ast.walk(part)}
    for node in ast.walk(tree(module)):
        if id(node) in unread:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or "", False
        elif isinstance(node, ast.ImportFrom):
            yield from ((name, True) for name in relative(module, node))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Late":
            yield ast.literal_eval(node.args[0]), True


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def relative(module: str, node: ast.ImportFrom) -> Iterator[str]:
    folder = (ROOT / module).parent
    for _ in range(node.level - 1):
        folder = folder.parent
    place = folder.joinpath(*(node.module or "").split("."))
    for alias in node.names:
        found = [place / alias.name, place, place / "__init__"]
        target = next(each for each in found if each.with_name(each.name + ".py").exists())
        yield str(target.relative_to(ROOT))


def matches(module: str, patterns: list[str]) -> bool:
    return any(fnmatch(module, pattern) for pattern in patterns)


def layer(module: str) -> int:
    found = [number for number, (_, patterns) in enumerate(LAYERS) if matches(module, patterns)]
    assert len(found) == 1, f"{module} stands in {len(found)} layers: add it to LAYERS"
    return found[0]


def arrows(module: str) -> set[str]:
    return {name for name, ours in imported(module) if ours}


@pytest.mark.parametrize("module", modules())
def test_imports_point_down_only(module: str) -> None:
    up = [name for name in sorted(arrows(module)) if layer(name) < layer(module)]
    assert up == [], f"{module} ({LAYERS[layer(module)][0]}) imports from above"


def test_no_modules_import_each_other_in_a_circle() -> None:
    left = {module: arrows(module) - {module} for module in modules()}
    while free := [module for module, names in left.items() if not names & left.keys()]:
        for module in free:
            del left[module]
    assert not left


@pytest.mark.parametrize("module", modules())
def test_every_library_has_its_rooms(module: str) -> None:
    outside = {name.split(".")[0] for name, ours in imported(module) if not ours} - set(sys.stdlib_module_names)
    assert [name for name in sorted(outside) if not matches(module, LIBRARIES.get(name, []))] == []


@pytest.mark.parametrize("module", modules())
def test_no_module_runs_an_event_loop(module: str) -> None:
    assert not {name.split(".")[0] for name, _ in imported(module)} & {"asyncio", "trio", "anyio", "aiohttp", "httpx"}
    assert not [node for node in ast.walk(tree(module)) if isinstance(node, (ast.AsyncFunctionDef, ast.Await))]


def changes(module: str) -> Iterator[tuple[int, str]]:
    """(line, call) of everything that changes a file by itself."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute):
            of_os = isinstance(node.value, ast.Name) and node.value.id == "os" and node.attr in CHANGES
            if of_os or node.attr in ("write_bytes", "write_text", "touch"):
                yield node.lineno, node.attr


@pytest.mark.parametrize("module", modules())
def test_files_are_changed_in_one_place(module: str) -> None:
    allowed = CHANGERS.get(module, set())
    assert [(line, call) for line, call in changes(module) if call not in allowed] == []


def test_the_tables_name_nothing_that_is_gone() -> None:
    for module, calls in CHANGERS.items():
        used = {call for _, call in changes(module)}
        assert used
        assert module == "durable" or used == calls
    assert all(used_somewhere(library) for library in LIBRARIES)


def used_somewhere(library: str) -> bool:
    return any(name.split(".")[0] == library for module in modules() for name, ours in imported(module) if not ours)


# -- what an import costs


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


HEAVY = "fsspec", "requests", "urllib3", "tqdm", "typer", "backoff", "obstore", "asyncio", "cryptography", "http.client"


def test_importing_the_package_imports_no_library_and_starts_nothing() -> None:
    code = f"""
import sys, threading
import anthill_sync
print([name for name in {HEAVY} if name in sys.modules], threading.active_count())
"""
    assert run(code) == "[] 1\n"


def test_a_store_in_a_directory_needs_no_library_of_the_web_or_the_terminal(tmp_path: Path) -> None:
    code = f"""
import sys, threading
from anthill_sync import Store
with Store.create({str(tmp_path / "home")!r}, pad_size=16384) as store:
    started = threading.active_count()
    store["k"] = b"v"
    assert store["k"] == b"v"
print([name for name in ("requests", "urllib3", "tqdm", "typer", "obstore") if name in sys.modules], started)
"""
    assert run(code) == "[] 1\n"


MOVERS = "allocator", "pads", "pipeline", "putting", "removing", "reader", "events", "summaries", "sealing", "machine"
UNUSED = "backoff", "asyncio", "requests", "obstore", "cryptography", *(f"anthill_sync.{name}" for name in MOVERS)


def test_opening_a_store_and_listing_its_keys_loads_nothing_that_moves_data(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    run(f"from anthill_sync import Store; Store.create({home!r}, pad_size=16384).close()")
    code = f"""
import sys
from anthill_sync import Store
with Store.open({home!r}) as store:
    assert list(store) == []
print([name for name in {UNUSED} if name in sys.modules])
"""
    assert run(code) == "[]\n"
    code = f"""
import sys
from anthill_sync.cli import main
assert main(["--home", {home!r}, "ls"]) == 0
print([name for name in {(*UNUSED, "tempfile", "tqdm")} if name in sys.modules])
"""
    assert run(code) == "[]\n"


def test_the_version_is_shown_before_any_command_is_built() -> None:
    code = """
import runpy, sys
sys.argv = ["anthill", "--version"]
try:
    runpy.run_module("anthill_sync", run_name="__main__")
except SystemExit as end:
    print(end.code, "typer" in sys.modules)
"""
    assert run(code) == f"anthill {anthill_sync.__version__}\n0 False\n"


def test_every_public_name_can_be_imported() -> None:
    code = "import anthill_sync; print(all(getattr(anthill_sync, name) for name in anthill_sync.__all__))"
    assert run(code) == "True\n"
