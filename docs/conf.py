"""How Sphinx builds the documentation."""

from __future__ import annotations

import re
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "apimart-async"
version = release = installed_version("apimart-async")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "changes"]
myst_heading_anchors = 2

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "apimart-async"
html_show_copyright = False

SINGLE_BACKTICKS = re.compile(r"(?<![`:])`([^`]+)`(?![`_])")


def code_in_single_backticks(
    _app: Sphinx, _what: str, _name: str, _item: object, _options: object, lines: list[str]
) -> None:
    """Let docstrings write code as the pages do; reStructuredText wants two backticks."""
    lines[:] = [SINGLE_BACKTICKS.sub(r"``\1``", line) for line in lines]


def setup(app: Sphinx) -> None:
    """Register the above ahead of napoleon, which has priority 500."""
    app.connect("autodoc-process-docstring", code_in_single_backticks, priority=400)
