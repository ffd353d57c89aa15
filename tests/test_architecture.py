"""The package speaks HTTP through the documented interface of aiohttp alone."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

import apimart_async

PACKAGE: Final = Path(apimart_async.__file__).parent
MODULES: Final = sorted(PACKAGE.rglob("*.py"))

# Modules that aiohttp documents, and of aiohttp.abc the names it documents for clients and servers.
DOCUMENTED: Final = {"aiohttp", "aiohttp.web", "aiohttp.abc"}
ABSTRACT: Final = {"AbstractAccessLogger", "AbstractResolver", "ResolveResult"}

# Names and assignments by which connections, parsers and protocols are driven from outside.
INTERNALS: Final = re.compile(
    r"client_proto|RawResponseMessage|StreamWriter|set_protocol|connector\.connect|BufferedProtocol"
    r"|\._[a-z]+ *=.*aiohttp"
)


def imports(source: str) -> list[tuple[str, str | None]]:
    """Return the modules that a source imports, each with the name it takes from them."""
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [(node.module, alias.name) for alias in node.names]
    return found


def undocumented(source: str) -> list[str]:
    """Return the imports of aiohttp that it does not document."""
    names: list[str] = []
    for module, name in imports(source):
        if module.partition(".")[0] != "aiohttp":
            continue
        is_public = module in DOCUMENTED and not (name or "").startswith("_")
        if not is_public or (module == "aiohttp.abc" and name not in ABSTRACT):
            names.append(f"{module}.{name}" if name else module)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_documented_names_of_aiohttp_are_used(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert not undocumented(source)
    assert not INTERNALS.search(source)


def test_the_check_finds_every_way_around_it() -> None:
    for line in (
        "import aiohttp.client_reqrep",
        "from aiohttp.http import HttpProcessingError",
        "from aiohttp import _websocket",
        "from aiohttp.abc import AbstractStreamWriter",
        "def f():\n    from aiohttp.payload import Payload",
    ):
        assert undocumented(line)
    for line in (
        "import aiohttp",
        "from aiohttp import ClientSession, web",
        "from aiohttp.web import Response",
    ):
        assert not undocumented(line)


def test_no_private_attribute_of_aiohttp_is_read() -> None:
    """The classes of the package may call their own attributes private; those of aiohttp are not theirs."""
    for name in ("session", "exchange"):
        tree = ast.parse((PACKAGE / "transport" / f"{name}.py").read_text(encoding="utf-8"))
        foreign = [
            ast.unparse(node)
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
            and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})
        ]
        assert not foreign
