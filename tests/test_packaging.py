"""What is built installs into clean environments, whole and nothing more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = (".git", ".venv-*", "build", "dist", "*.egg-info", ".*_cache", ".hypothesis", ".swift-cluster", "__pycache__")


def run(*command: object, cwd: Path, **environment: str) -> str:
    """What it prints; without this checkout in sight."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ANTHILL_", "PIP_REQUIRE"))}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**clean, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sdist, and the wheel that is made of it."""
    source, out = tmp_path_factory.mktemp("source") / "tree", tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*LEFT_OUT))
    run(sys.executable, "-m", "build", "--outdir", out, source, cwd=out)
    return {"wheel": next(out.glob("*.whl")), "sdist": next(out.glob("*.tar.gz"))}


@pytest.mark.xdist_group("packaging")
def test_the_wheel_is_the_package_and_nothing_else(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = set(wheel.namelist())
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "anthill_sync").rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    assert package <= names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"anthill_sync"}
    assert "anthill_sync/py.typed" in names


@pytest.mark.xdist_group("packaging")
def test_the_sdist_has_what_it_takes_to_build_and_to_read(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"setup.cfg", "setup.py", "pyproject.toml", "README.rst", "LICENSE", "anthill_sync/py.typed"} <= names


@pytest.mark.xdist_group("packaging")
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_it_installs_into_a_clean_environment_and_works_from_anywhere(kind: str, built: dict[str, Path], tmp_path: Path) -> None:
    place = tmp_path / "environment"
    venv.create(place, with_pip=True)
    run(place / "bin" / "pip", "install", "--quiet", built[kind], cwd=tmp_path)
    command = tmp_path / "anthill"  # as pipx does it: a link on the PATH, the environment elsewhere
    command.symlink_to(place / "bin" / "anthill")
    home = tmp_path / "home"
    run(command, "--home", home, "init", cwd=tmp_path)
    (tmp_path / "file").write_text("value")
    run(command, "--home", home, "put", "k", tmp_path / "file", cwd=tmp_path)
    assert run(place / "bin" / "python", "-m", "anthill_sync", "--home", home, "get", "k", cwd=tmp_path) == "value"
    assert run(place / "bin" / "python", "-c", "import anthill_sync; print(anthill_sync.__file__)", cwd=tmp_path).startswith(
        str(place)
    )
