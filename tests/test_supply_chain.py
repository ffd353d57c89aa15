"""The bounds of the dependencies and the actions of the workflow are the ones that were examined."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTED = re.compile(r"^\| (?P<name>\S+) (?P<version>[0-9.]+)[ (|]", re.MULTILINE)
BOUND = re.compile(r"(?P<name>[A-Za-z0-9_-]+)(\[\w+\])?>=(?P<version>[0-9.]+)$")
ACTION = re.compile(r"uses: (?P<action>\S+)")


def bounds() -> dict[str, tuple[int, ...]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    requirements = [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]
    found = [BOUND.match(requirement) for requirement in requirements]
    return {match["name"].lower(): release(match["version"]) for match in found if match}


def release(version: str) -> tuple[int, ...]:
    """Compare 13 and 13.0.0 as equal."""
    numbers = [int(part) for part in version.split(".")]
    return tuple(numbers + [0] * (3 - len(numbers)))


def test_bounds_are_the_documented_ones() -> None:
    section = (ROOT / "docs" / "security.md").read_text().partition("## Dependencies")[2]
    documented = {match["name"].lower(): release(match["version"]) for match in DOCUMENTED.finditer(section)}
    assert len(documented) >= 6
    assert documented.items() <= bounds().items()


def test_every_dependency_has_a_lower_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name: extra for name, extra in project["optional-dependencies"].items() if name != "all"}
    requirements = [
        *project["dependencies"],
        *(requirement for extra in extras.values() for requirement in extra),
    ]
    assert [requirement for requirement in requirements if not BOUND.match(requirement)] == []


@pytest.mark.parametrize(
    "workflow", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.name
)
def test_actions_are_pinned_by_digest(workflow: Path) -> None:
    actions = [match["action"] for match in ACTION.finditer(workflow.read_text())]
    assert actions
    assert [action for action in actions if not re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", action)] == []


# An installer, its verb, its options and other names, and then the name of the package.
INSTALLS = re.compile(
    r"\b(?:(?:pip3?|pipx|uv|poetry|pdm|conda)(?: \w+)*? (?:install|add|inject|run)|uvx)\b"
    r"(?: -\S+| (?!apimart)\w[\w.\[\],>=-]*)* apimart(?:[-_]async)?(?=[\[\s=<>~!;,.)`\\]|$)"
)


def installs(text: str) -> list[str]:
    """Return the commands that install the package from an index, also those in a string over two lines."""
    return INSTALLS.findall(re.sub(r"[\s\"'*$]+", " ", text))


def test_no_message_installs_a_name_that_is_not_published() -> None:
    """The package of a stranger would be installed if the stranger registered the name first."""
    folders = [ROOT / "apimart_async", ROOT / "docs", ROOT / "benchmarks"]
    kinds = {".py", ".md", ".html", ".toml", ".txt"}
    texts = [path for folder in folders for path in folder.rglob("*.*") if path.suffix in kinds]
    found = [path.name for path in [*texts, *ROOT.glob("*.md")] if installs(path.read_text(encoding="utf-8"))]
    assert len(texts) > 200
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "pip install apimart-async",
        "`pip install -U 'apimart-async[cli]'`",
        'f"pip install --upgrade "\n    "apimart_async>=0.1"',
        "python -m pip install pytest apimart-async.",
        "uv pip install apimart-async",
        "uv add apimart-async",
        "uvx apimart-async",
        'pipx install "apimart-async[all]"',
        "poetry add apimart-async",
    ],
)
def test_a_command_that_installs_the_name_is_found(text: str) -> None:
    assert installs(text)


@pytest.mark.parametrize(
    "text",
    [
        "pip install '.[cli]' in the clone of apimart-async",
        "pip install '.[cli]' && apimart edit",
        "uv run pytest",
    ],
)
def test_a_command_that_installs_the_clone_is_fine(text: str) -> None:
    assert not installs(text)
