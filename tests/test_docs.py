"""The documents: what they show works as written, and what they list is all there is."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anthill_sync import errors
from anthill_sync.settings import SETTING_FIELDS, Settings, environment_name

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "anthill_sync"
DOCUMENTS = sorted([*ROOT.glob("*.rst"), *ROOT.glob("docs/*.rst")])
README = (ROOT / "README.rst").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.rst").read_text(encoding="utf-8")
CRON = (ROOT / "docs" / "cron.rst").read_text(encoding="utf-8")
PATIENCE = 60.0  # seconds until an example that hangs fails


def blocks(text: str, mark: str) -> list[str]:
    """The code blocks that follow a comment ``.. tested: MARK``."""
    pattern = rf"^\.\. tested: {mark}\n\n\.\. code-block:: \w+\n\n((?:   .*\n|\n)+)"
    found = ["\n".join(line[3:] for line in block.splitlines()).strip() for block in re.findall(pattern, text, re.MULTILINE)]
    assert found, f"no block is marked {mark}"
    return found


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The command, started like the one that is installed, but from this checkout."""
    path = tmp_path / "bin" / "anthill"
    path.parent.mkdir()
    start = f'PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m anthill_sync "$@"'
    path.write_text(f"#!/bin/sh\n{start}\n")
    path.chmod(0o755)
    return path


def run(command: list[str], folder: Path, program: Path) -> subprocess.CompletedProcess[str]:
    """Run a command with little more around it than cron gives."""
    environment = {"HOME": str(folder), "PATH": f"{program.parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        stdin=subprocess.DEVNULL,
    )


# -- README.rst


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block, with the output shown below it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown.strip("\n")


def matches(shown: str, printed: str) -> bool:
    """True where what is printed is what is shown, ``...`` standing for anything within a line."""
    pattern = "[^\n]*".join(re.escape(piece) for piece in shown.split("..."))
    return re.fullmatch(pattern, printed.strip("\n")) is not None


def test_the_shell_tour_prints_what_the_readme_shows(tmp_path: Path, program: Path) -> None:
    steps = [step for block in blocks(README, "shell") for step in commands(block)]
    mark = "-- next --"
    script = "set -euo pipefail\n" + "".join(f"{command}\necho '{mark}'\n" for command, _ in steps)
    folder = tmp_path / "tour"
    folder.mkdir()
    done = run(["bash", "-c", script], folder, program)
    assert (done.returncode, done.stderr) == (0, "")
    printed = done.stdout.split(f"{mark}\n")
    for (command, shown), output in zip(steps, printed, strict=False):
        assert matches(shown, output), f"$ {command}\n{output}"
    assert len(printed) == len(steps) + 1


def test_the_python_tour_prints_what_the_readme_shows(tmp_path: Path, program: Path) -> None:
    (block,) = blocks(README, "python")
    shown = re.findall(r"# prints: (.*)", block)
    done = run([sys.executable, "-W", "error", "-c", block], tmp_path, program)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == shown


def setting_rows() -> dict[str, tuple[str, str]]:
    """Default and meaning of every setting in the README's table."""
    section = README.partition("\nSettings\n")[2].partition("\nWhere things are documented\n")[0]
    return {
        name: (default, meaning)
        for name, default, meaning in re.findall(r"^``([\w.]+)`` +(\S*)  +(\S.*)$", section, re.MULTILINE)
    }


@pytest.mark.parametrize("name", SETTING_FIELDS)
def test_every_setting_is_documented_with_its_default(name: str) -> None:
    default, meaning = setting_rows()[name]
    value = getattr(Settings(), name)
    expected = (
        "unset"
        if value is None
        else str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
    assert default == expected
    assert (
        meaning.replace("`", "")
        .removesuffix(" *")
        .startswith(SETTING_FIELDS[name].metadata["doc"].partition(":")[0].replace("`", ""))
    )


def test_no_setting_is_documented_that_does_not_exist() -> None:
    assert set(setting_rows()) == {*SETTING_FIELDS, "objects.NAME"}
    assert environment_name("passphrase_file") in README


# -- docs/cron.rst


@pytest.fixture
def ann(tmp_path: Path, program: Path) -> Path:
    """Ann's home folder as docs/cron.rst describes it, with a store."""
    folder = tmp_path / "ann"
    (folder / ".venvs" / "anthill").mkdir(parents=True)
    (folder / ".venvs" / "anthill" / "bin").symlink_to(program.parent)
    (folder / "documents" / "letters").mkdir(parents=True)
    (folder / "documents" / "letters" / "one.txt").write_text("Dear queen")
    (folder / "inbox").write_text("From the north\n")
    (folder / "bin").mkdir()
    (folder / "bin" / "dump-database").write_text("#!/bin/sh\necho whole dump\n")
    (folder / "bin" / "dump-database").chmod(0o755)
    assert run([str(program), "--home", str(folder / "store"), "init"], folder, program).returncode == 0
    return folder


def keys(ann: Path, program: Path) -> list[str]:
    return run([str(program), "--home", str(ann / "store"), "ls"], ann, program).stdout.splitlines()


def as_cron(line: str, ann: Path) -> subprocess.CompletedProcess[str]:
    """Run a crontab's line as cron does: its own shell, hardly any environment, a ``%`` only where escaped."""
    command = line.split(maxsplit=1)[1] if line.startswith("@") else line.split(maxsplit=5)[5]
    assert not re.search(r"(?<!\\)%", command), "an unescaped percent sign ends the command"
    environment = {"HOME": str(ann), "LOGNAME": "ann", "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
    shell = ["/bin/sh", "-c", command.replace("\\%", "%").replace("/home/ann", str(ann))]
    return subprocess.run(
        shell, cwd=ann, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL
    )


def test_every_line_for_cron_works_and_says_nothing(ann: Path, program: Path) -> None:
    (block,) = blocks(CRON, "crontab")
    lines = [line for line in block.splitlines() if not line.startswith(("#", "MAILTO="))]
    for line in lines:
        done = as_cron(line, ann)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), line
    stored = keys(ann, program)
    assert {"documents/letters/one.txt", "mail/inbox"} < set(stored)
    assert any(re.fullmatch(r"weeks/\d{4}-\d\d", key) for key in stored)


def test_the_script_for_cron_stores_whole_dumps_only(ann: Path, program: Path) -> None:
    (block,) = blocks(CRON, "script")
    script = ["/bin/sh", "-c", block.replace("/home/ann", str(ann))]
    done = run(script, ann, program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert run([str(program), "--home", str(ann / "store"), "get", "database"], ann, program).stdout == "whole dump\n"
    (ann / "bin" / "dump-database").write_text("#!/bin/sh\necho half a\nexit 9\n")
    failed = run(script, ann, program)
    assert (failed.returncode, "dump-database ended with exit code 9" in failed.stderr) == (66, True)
    assert run([str(program), "--home", str(ann / "store"), "get", "database"], ann, program).stdout == "whole dump\n"


def test_the_service_runs_its_command(ann: Path, program: Path) -> None:
    (block,) = blocks(CRON, "service")
    (command,) = re.findall(r"^ExecStart=(.*)$", block, re.MULTILINE)
    done = run(shlex.split(command.replace("/home/ann", str(ann))), ann, program)
    assert (done.returncode, done.stderr) == (0, "")
    assert keys(ann, program) == ["documents/letters/one.txt"]


def test_every_exit_code_is_documented() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.AnthillError)]
    documented = {int(code) for code in re.findall(r"^(\d+) {2}", CRON, re.MULTILINE)}
    assert {kind.exit_code for kind in kinds} | {0, 129, 130, 141, 143} == documented


# -- docs/architecture.rst


def modules() -> dict[str, Path]:
    """Every module of the package by the name the documents give it."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = path
    return found


def listed_modules() -> list[str]:
    """The modules in the order of docs/architecture.rst."""
    section = ARCHITECTURE.partition("\nRooms\n")[2].partition("\nThe way of the data\n")[0]
    lines = re.findall(r"^\* ((?:``[\w.]+``(?:, | and )?)+):", section, re.MULTILINE)
    return [name for line in lines for name in re.findall(r"``([\w.]+)``", line)]


def test_every_module_is_named_once_in_the_architecture() -> None:
    assert sorted(listed_modules()) == sorted(modules())


def imported(path: Path) -> Iterator[str]:
    """Modules of this package that a module imports when it runs, not those for its type hints alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            package = path.parent if node.level == 1 else path.parent.parent
            prefix = [] if package == PACKAGE else [package.name]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from (".".join([*prefix, name]) for name in names if name)


def test_imports_point_down_the_list_of_modules() -> None:
    order = {name: position for position, name in enumerate(listed_modules())}
    upward = [
        f"{name} imports {other}"
        for name, path in modules().items()
        for other in imported(path)
        if other in order and name not in ("__init__", "__main__") and order[other] <= order[name]
    ]
    assert not upward


def test_every_lock_is_described() -> None:
    section = ARCHITECTURE.partition("\nLocks\n")[2].partition("\nStates\n")[0]
    pattern = r"^class (\w+)|(?:self\.)?(\w+)(?:: [\w.\[\]]+)? = threading\.(?:R?Lock|Condition)\("
    missing, inside = [], ""
    for path in modules().values():
        for owner, lock in re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE):
            inside = owner or inside
            if lock and f"``{inside}.{lock}``" not in section and f"``{lock}``" not in section:
                missing.append(f"{path.name}: {inside}.{lock}")
    assert not missing


# -- all documents


def anchors(path: Path) -> set[str]:
    """The names by which a page's sections are linked to: lower case, hyphens."""
    titles = re.findall(r"^(\S.*)\n([=\-~])\2{2,}$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w]+", "-", title.lower()).strip("-") for title, _ in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_within_the_repository_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"`[^`<>]+ <([^>]+)>`_", path.read_text(encoding="utf-8")):
        if "://" not in target:
            page, _, anchor = target.partition("#")
            place = path.parent / page
            assert place.is_file(), target
            assert not anchor or anchor in anchors(place), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_scripts_that_a_document_names_are_there(path: Path) -> None:
    for script in re.findall(r"\bscripts/([a-z-]+)\b", path.read_text(encoding="utf-8")):
        assert os.access(ROOT / "scripts" / script, os.X_OK), script


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_tests_that_a_document_names_are_there(path: Path) -> None:
    for name in re.findall(r"``(tests/[\w/.]+)``", path.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), name
