"""The pages as they are built: no warning, no link that leads nowhere; and the tour does what it says."""

from __future__ import annotations

import doctest
import html.parser
import os
import subprocess
import sys
from collections.abc import MutableMapping
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

ROOT = Path(__file__).resolve().parent.parent


class Links(html.parser.HTMLParser):
    """Where a page leads, and the names of its places."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name == "id":
                self.places.add(value)
            if value and tag == "a" and name == "href":
                self.targets.append(value)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Links]:
    folder = tmp_path_factory.mktemp("pages")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "-b", "html", "docs", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return {path.name: Links(path) for path in [*folder.glob("*.html"), folder / "LICENSE"]}


def test_every_document_is_a_page(pages: dict[str, Links]) -> None:
    assert {f"{path.stem}.html" for path in ROOT.glob("docs/*.rst")} <= pages.keys()


def test_every_link_between_pages_leads_somewhere(pages: dict[str, Links]) -> None:
    lost, followed = [], 0
    for name, page in pages.items():
        for target in page.targets:
            file, place = urldefrag(target)
            if "/" in file or ":" in file:
                continue
            followed += 1
            there = pages.get(file or name)
            if there is None or (place and unquote(place) not in there.places):
                lost.append(f"{name}: {target}")
    assert followed > 100
    assert not lost


def test_the_public_names_are_documented(pages: dict[str, Links]) -> None:
    import anthill_sync

    places = {place.rpartition(".")[2] for place in pages["api.html"].places}
    assert set(anthill_sync.__all__) <= places


def test_every_method_of_a_store_is_documented(pages: dict[str, Links]) -> None:
    from anthill_sync import Store

    own = set(dir(Store)) - set(dir(MutableMapping))
    described = {name for name in own if not name.startswith("_") and getattr(Store, name).__doc__}
    assert {"open", "close", "put"} <= described
    assert {f"anthill_sync.store.Store.{name}" for name in described} <= pages["api.html"].places


def test_the_tour_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(ROOT / "docs" / "tour.rst"), module_relative=False)
    assert result.attempted > 40
    assert result.failed == 0
