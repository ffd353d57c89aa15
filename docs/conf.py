"""How Sphinx builds the documentation."""

from __future__ import annotations

import inspect
import re
import tomllib
from importlib.metadata import version as installed_version
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any, Final, get_args

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cyclopts import App
    from cyclopts.argument import Argument
    from sphinx.application import Sphinx

ROOT: Final = Path(__file__).resolve().parents[1]

project = "apimart-async"
version = release = installed_version("apimart-async")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "changes", "templates"]
templates_path = ["templates"]
# Names of options keep their hyphens.
smartquotes = False
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
maximum_signature_line_length = 90
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "apimart-async"
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_js_files = ["tables.js", "versions.js"]
copybutton_prompt_text = "$ "

SINGLE_BACKTICKS = re.compile(r"(?<![`:])`([^`]+)`(?![`_])")
OPTION = re.compile(r"(?<![\w`-])--?[a-z][a-z-]*")
MARKUP = re.compile(r"[\\*_<>\[\]|]")
MODELS = re.compile(r"= \(ModelSpec\(.*\)\)(?=[,)])", re.DOTALL)
CREATED_BY_CLIENTS = re.compile(r"apimart_async\.(resources\.|sync\.(?!Apimart$|AppleRouter$))")
INDENT: Final = "  "


def code_in_single_backticks(
    _app: Sphinx, kind: str, _name: str, _item: object, _options: object, lines: list[str]
) -> None:
    """Let docstrings write code as the pages do; reStructuredText wants two backticks."""
    lines[:] = [SINGLE_BACKTICKS.sub(r"``\1``", line) for line in lines]
    if kind in {"attribute", "data", "property"} and lines:
        # As below: napoleon takes the first words of an attribute, too, for a type.
        lines[0] = f": {lines[0]}"
    for number, line in enumerate(lines[:-1]):
        if line.strip() == "Returns:":
            # Without this, napoleon takes the words before a colon for a type.
            following = lines[number + 1]
            margin = len(following) - len(following.lstrip())
            lines[number + 1] = f"{following[:margin]}: {following[margin:]}"


def callers_signature(
    _app: Sphinx, kind: str, name: str, _item: object, _options: object, signature: str | None, returns: str
) -> tuple[str, str] | None:
    """Leave out the arguments of classes that only clients create, marks of attrs, and the list of models."""
    if signature is None:
        return None
    signature = MODELS.sub("= ...", signature)
    is_internal = kind == "class" and CREATED_BY_CLIENTS.match(name)
    return "" if is_internal else signature.replace(" = NOTHING", " = ..."), returns


def unreleased_changes() -> str:
    """Return the news fragments as the section of the next release, which a release leaves empty."""
    towncrier = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]
    lines: list[str] = []
    for kind in towncrier["type"]:
        fragments = sorted((ROOT / towncrier["directory"]).glob(f"*.{kind['directory']}.md"))
        if fragments:
            lines += ["", f"### {kind['name']}", ""]
        for fragment in fragments:
            text = fragment.read_text(encoding="utf-8").strip()
            lines.append("- " + indent(text, INDENT).removeprefix(INDENT))
    return "\n".join(["## Unreleased", *lines] if lines else [])


def changelog() -> str:
    """Return CHANGELOG.md with the changes since the last release."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return re.sub(r"<!-- towncrier .* -->", lambda _: unreleased_changes(), text)


def command_reference() -> str:
    """Return a section in Markdown for each command of the command line."""
    from apimart_async.cli.app import build

    return "\n".join(_sections(build(), ("apimart",)))


def _sections(command: App, names: tuple[str, ...]) -> Iterator[str]:
    if len(names) > 1:
        yield f"\n{'#' * len(names)} {' '.join(names)}\n"
    children = [name for name in command if name not in {*command.help_flags, *command.version_flags}]
    usage = str(command.usage or f"{' '.join(names)} {'COMMAND' if children else '[OPTIONS]'}")
    yield f"```text\n{usage.strip().removeprefix('Usage: ')}\n```\n"
    yield from _paragraphs(inspect.cleandoc(command.help))
    yield from _paragraphs((command.help_epilogue or "").strip())
    if command.default_command is not None:
        for argument in command.assemble_argument_collection():
            if argument.show:
                yield f"{_term(argument)}\n: {_prose(argument.parameter.help or '')}{_default(argument)}\n"
    for name in children:
        yield from _sections(command[name], (*names, name))


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text; those that are indented are examples and tables."""
    for paragraph in text.split("\n\n"):
        if paragraph.startswith(INDENT):
            yield f"```text\n{inspect.cleandoc(paragraph)}\n```\n"
        else:
            yield _prose(paragraph) + "\n"


def _prose(text: str) -> str:
    """Return a text of the command line as Markdown, with options as code."""
    escaped = MARKUP.sub(r"\\\g<0>", text)
    return OPTION.sub(r"`\g<0>`", escaped)


def _term(argument: Argument) -> str:
    names = ", ".join(f"`{name}`" for name in argument.names)
    choices = argument.get_choices()
    if choices:
        names += " " + " or ".join(f"`{choice}`" for choice in choices)
    elif argument.names[0].startswith("-") and argument.hint is not bool:
        kinds: list[Any] = [argument.hint, *get_args(argument.hint)]
        names += f" *{'path' if Path in kinds else 'number' if {int, float} & set(kinds) else 'text'}*"
    return names + (" (required)" if argument.required else "")


def _default(argument: Argument) -> str:
    default = argument.field_info.default
    if argument.required or default is None or isinstance(default, bool) or default in {"", ()}:
        return ""
    return f" Default: `{default}`."


GENERATED: Final = {"changelog": changelog, "command-line": command_reference}


def generate_page(_app: Sphinx, name: str, source: list[str]) -> None:
    """Fill in a page that is made of other files of the repository."""
    if name in GENERATED:
        source[0] = source[0].replace("<!-- generated -->", GENERATED[name]())


def setup(app: Sphinx) -> None:
    """Register the above; the docstrings ahead of napoleon, which has priority 500."""
    app.connect("autodoc-process-docstring", code_in_single_backticks, priority=400)
    app.connect("autodoc-process-signature", callers_signature)
    app.connect("source-read", generate_page)
