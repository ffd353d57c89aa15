"""Pages with lists are complete: names, errors, arguments, variables, commands, changes."""

from __future__ import annotations

import importlib.util
import inspect
import re
import tomllib
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest

import apimart_async
from apimart_async import batch, config, emulator, errors, fleet, sync, webhooks
from apimart_async.cli.app import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from cyclopts import App

# Modules whose `__all__` is the public face, and the names there that the command and the fleet share.
PUBLIC: Final = (apimart_async, batch, emulator, fleet, sync)
INTERNAL: Final = {"__version__", "BatchOptions", "Runner"}
RESOURCES: Final = (apimart_async.AsyncApimart, apimart_async.AsyncAppleRouter)
MEBIBYTE: Final = 1024 * 1024


@pytest.fixture(scope="module")
def conf(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_conf", repository / "docs" / "conf.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(repository: Path, name: str) -> str:
    return (repository / "docs" / name).read_text(encoding="utf-8")


def rows(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the table whose first row starts so."""
    (table,) = re.findall(rf"^\| {heading} \|.*\n\|[-|: ]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_reference_has_every_public_name_once(repository: Path) -> None:
    pages = sorted((repository / "docs" / "reference").glob("*.md"))
    text = "".join(path.read_text(encoding="utf-8") for path in pages)
    listed = re.findall(r"^(?:   ~|\.\. py:data:: )(apimart_async\.[\w.]+)$", text, re.MULTILINE)
    assert len(listed) == len(set(listed))
    short = {name.rpartition(".")[2] for name in listed}
    for module in PUBLIC:
        assert not set(module.__all__) - short - INTERNAL, module.__name__
    own = {
        name for name, item in vars(webhooks).items() if getattr(item, "__module__", "") == webhooks.__name__
    }
    assert {name for name in own if not name.startswith("_")} <= short


def test_the_reference_has_every_resource_of_the_clients(repository: Path) -> None:
    text = page(repository, "reference/resources.md")
    for client in RESOURCES:
        for kind in inspect.get_annotations(client).values():
            assert f".{kind}\n" in text


def test_each_error_has_one_row(repository: Path) -> None:
    table = rows(page(repository, "errors.md"), "error \\| when")
    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.ApimartError)
    }
    assert sorted(code(row[0])[0] for row in table) == sorted(kinds)
    for name, when, advice, money in table:
        assert when
        assert advice
        assert money in {"no", "perhaps", "yes"}, name
        # An error that may be raised again without danger costs nothing.
        if kinds[code(name)[0]]("", status=429).is_transient:
            assert money == "no" or "DownloadError" in name


def test_each_attribute_of_an_error_has_a_row(repository: Path) -> None:
    found: dict[str, list[str]] = {}
    owner = ""
    for name, attributes, _ in rows(page(repository, "errors.md"), "error \\| attribute"):
        owner = (code(name) or [owner])[0]
        found.setdefault(owner, []).extend(code(attributes))
    expected: dict[str, list[str]] = {}
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and issubclass(kind, errors.ApimartError):
            fields = [field.name for field in attrs.fields(kind) if not field.inherited]
            expected |= {name: fields} if fields else {}
    assert found == expected


def test_each_extra_has_a_row(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    listed = [code(row[0])[0] for row in rows(page(repository, "quickstart.md"), "extra")]
    assert sorted(listed) == sorted(extras)


def test_each_argument_of_a_client_has_a_row(repository: Path) -> None:
    table = rows(page(repository, "configuration.md"), "argument")
    listed = [code(row[0])[0] for row in table]
    assert listed == list(inspect.signature(apimart_async.AsyncApimart).parameters)
    shared = [name for name, row in zip(listed, table, strict=True) if "†" not in row[0]]
    assert shared == list(inspect.signature(apimart_async.AsyncAppleRouter).parameters)


def as_written(value: object) -> set[str]:
    forms = {str(value), f"`{value!r}`", f'`"{value}"`'}
    if isinstance(value, int | float):
        forms |= {f"{value:g}", f"{value // MEBIBYTE:g} MiB", f"{value // MEBIBYTE // 1024:g} GiB"}
    return forms


@pytest.mark.parametrize("kind", [config.Timeout, config.Retry, config.Limits, config.Poll, config.Media])
def test_each_setting_has_a_row_with_its_default(
    repository: Path, kind: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("APIMART_RESULT_HOSTS", raising=False)
    text = page(repository, "configuration.md")
    found = dict(re.findall(rf"^\| `{kind.__name__}\.(\w+)` \| ([^|]+) \|", text, re.MULTILINE))
    assert list(found) == [field.name for field in attrs.fields(kind)]
    defaults = kind()
    for name, written in found.items():
        assert written in as_written(getattr(defaults, name)), name


def variables(source: str) -> set[str]:
    """Return the environment variables that a module names: ours, and the literal arguments of `environ`."""
    ours = re.findall(r'"((?:APIMART|APPLEROUTER)(?:_[A-Z]+)+)"', source)
    return {*ours, *re.findall(r'os\.(?:environ(?:\.\w+)?|getenv)[\[(]\s*"(\w+)"', source)}


def test_each_environment_variable_has_a_row(repository: Path) -> None:
    package = repository / "apimart_async"
    read = {name for path in package.rglob("*.py") for name in variables(path.read_text(encoding="utf-8"))}
    listed = {name for row in rows(page(repository, "configuration.md"), "variable") for name in code(row[0])}
    assert len(read) > 7
    # Those of proxies are read by the standard library.
    assert listed - {"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"} == read


def test_the_search_for_variables_finds_every_way_to_read_one() -> None:
    found = variables('os.environ["A"], os.environ.get("B"), os.getenv("C", ""), f(env_var="APIMART_D_E")')
    assert found == {"A", "B", "C", "APIMART_D_E"}


def commands(app: App, names: tuple[str, ...] = ("apimart",)) -> Iterator[tuple[str, App]]:
    yield " ".join(names), app
    for name in app:
        if name not in {"--help", "-h", "--version"}:
            yield from commands(app[name], (*names, name))


def test_the_command_reference_has_every_command_and_option(conf: ModuleType) -> None:
    text = conf.command_reference()
    sections = dict(re.findall(r"^#+ (apimart .*)\n((?:(?!#).*\n?)*)", text, re.MULTILINE))
    found = dict(commands(build()))
    found.pop("apimart")
    assert list(sections) == list(found)
    assert "apimart --install-completion" in found
    for name, command in found.items():
        if command.default_command is not None:
            for argument in command.assemble_argument_collection():
                assert f"`{argument.names[0]}`" in sections[name], (name, argument.names)


@pytest.mark.long  # Sphinx is imported
def test_the_first_words_of_an_attribute_are_not_shown_as_its_type(conf: ModuleType) -> None:
    google = pytest.importorskip("sphinx.ext.napoleon").GoogleDocstring
    assert not conf.napoleon_numpy_docstring  # it would take the mark of the empty type away
    for kind, text in (("attribute", "The faults: add to them."), ("property", "The faults.")):
        lines = [text, "", "Added later."]
        conf.code_in_single_backticks(None, kind, "", None, None, lines)
        assert google(lines, what=kind, name="faults").lines()[:3] == [text, "", "Added later."]


def test_the_changelog_has_every_fragment(repository: Path, conf: ModuleType) -> None:
    text = conf.changelog()
    fragments = list((repository / "docs" / "changes").glob("*.md"))
    # The commit of a release has none: `towncrier build` has moved them into CHANGELOG.md.
    assert ("## Unreleased" in text) == bool(fragments)
    for fragment in fragments:
        first = fragment.read_text(encoding="utf-8").strip().splitlines()[0]
        assert f"\n- {first}\n" in f"{text}\n", fragment.name
    assert "towncrier" not in text


def test_the_readme_links_to_pages_that_exist(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert links
    assert all((repository / link).exists() for link in links)
    assert not re.search(r"^:::|\{\w+\}", text, re.MULTILINE), "only Sphinx renders this"
