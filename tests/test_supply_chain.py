"""The bounds of the dependencies and the actions of the workflow are the ones that were examined."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTED = re.compile(r"^\| (?P<name>\S+) (?P<version>[0-9.]+)[ (|]", re.MULTILINE)
BOUND = re.compile(r"(?P<name>[A-Za-z0-9_-]+)>=(?P<version>[0-9.]+)$")
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


def test_no_message_installs_a_name_that_is_not_published() -> None:
    """Whoever registers the name first would be installed."""
    texts = [*(ROOT / "apimart_async").rglob("*.py"), *(ROOT / "docs").glob("**/*.md"), ROOT / "README.md"]
    found = [path.name for path in texts if re.search(r"pip install [-U ]*['\"]?apimart", path.read_text())]
    assert found == []
