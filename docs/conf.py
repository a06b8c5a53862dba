"""How Sphinx builds these pages: scripts/docs."""

import re

from sphinx.application import Sphinx

from anthill_sync import __version__

project = "anthill_sync"
author = "the developers of anthill_sync"
version = release = __version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode"]
html_extra_path = ["../LICENSE"]
html_theme = "alabaster"
html_theme_options = {"description": "A private, mutable key-value store for plain synchronous Python", "page_width": "1100px"}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"

_LINK = re.compile(r"<(?:\.\./|docs/)?([A-Za-z-]+)\.rst(#[a-z-]+)?>`_")
_PAGES = {"README": "index", "CHANGELOG": "changelog", "SECURITY": "report"}


def link_pages(text: str) -> str:
    """The pages link each other's sources, which is what a reader of the repository wants; here they are other pages."""
    return _LINK.sub(lambda found: f"<{_PAGES.get(found[1], found[1])}.html{found[2] or ''}>`_", text)


def setup(app: Sphinx) -> None:
    app.connect("source-read", lambda app, name, source: source.__setitem__(0, link_pages(source[0])))
    app.connect("include-read", lambda app, path, name, source: source.__setitem__(0, link_pages(source[0])))
