"""Write the blocking twins from the async sources.

    python -m apimart_async.sync.generate [--check]

Read are the public classes named ``Async…`` in ``resources``, ``client``, ``applerouter`` and ``batch``, and
those of their functions that the package exports. ``AsyncX`` becomes ``X``; signatures and docstrings are
carried over as they stand, and a body becomes one call through ``portal.py``. What is not foreseen is an
error that names its place. With ``--check`` nothing is written: the whole file is compared, and what differs
is printed.

Names are edited in the source text itself and lines are broken by one rule that formatters leave alone, so
that the output depends on no formatter and on no version of Python.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from apimart_async.sync.reading import Imports, NotForeseenError, Source, read_source
from apimart_async.sync.rendering import Renderer

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGE: Final = Path(__file__).resolve().parent.parent
FLOORS: Final = ("resources/*.py", "client.py", "applerouter.py", "batch/*.py")

HEADER: Final = '''\
"""The blocking twins of the async clients, method for method.

Written by ``python -m apimart_async.sync.generate``: change the async sources instead.
"""
# ruff: noqa: SLF001  # the twins open one another
# pyright: reportPrivateUsage=false

from __future__ import annotations
'''


def render(package: Path) -> str:
    """Return the text of the module of twins.

    Args:
        package: Folder of the package to read.

    Raises:
        NotForeseenError: A source holds something that is not foreseen.
    """
    sources = [
        read_source(path.relative_to(package.parent).as_posix(), _module(path, package), path.read_bytes())
        for pattern in FLOORS
        for path in sorted(package.glob(pattern))
    ]
    exported = _exported(package / "__init__.py")
    classes: dict[str, Source] = {}
    attributes: set[str] = set()
    for source in sources:
        for node in source.tree.body:
            if isinstance(node, ast.ClassDef) and node.name.startswith("Async"):
                if node.name in classes:
                    source.refuse(node, f"{node.name} is also in {classes[node.name].path}")
                classes[node.name] = source
                attributes |= {
                    item.annotation.id
                    for item in node.body
                    if isinstance(item, ast.AnnAssign) and isinstance(item.annotation, ast.Name)
                }
    twins = {name: name.removeprefix("Async") for name in classes}
    imports = Imports()
    blocks: list[str] = []
    for source in sources:
        renderer = Renderer(source, twins, imports)
        for node in source.tree.body:
            match node:
                case ast.ClassDef(name=name) if name in twins:
                    lines = renderer.render_class(node, is_root=name not in attributes)
                    blocks.append("\n".join(lines))
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if name in exported:
                    blocks.append("\n".join(renderer.render_function(node)))
                case _:
                    pass
    return "\n\n\n".join([f"{HEADER}\n{imports.render(package.name)}", *blocks]) + "\n"


def _module(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _exported(path: Path) -> frozenset[str]:
    for node in ast.parse(path.read_bytes(), str(path)).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                return frozenset(ast.literal_eval(value))
            case _:
                pass
    raise NotForeseenError(f"{path.name}:1: there is no __all__ in it.")


def main(arguments: Sequence[str] | None = None, package: Path = PACKAGE) -> int:
    """Run the command.

    Args:
        arguments: Instead of those of the process.
        package: Folder of the package.

    Returns:
        0 when the twins are as they should be, 1 when they are not, 2 when a source is not understood.
    """
    parser = argparse.ArgumentParser("python -m apimart_async.sync.generate", description="Write the twins.")
    parser.add_argument("--check", action="store_true", help="write nothing; print what differs")
    check = parser.parse_args(arguments).check
    target = package / "sync" / "_generated.py"
    try:
        wanted = render(package)
    except NotForeseenError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    found = target.read_bytes().decode() if target.exists() else ""
    if not check and found != wanted:
        target.write_bytes(wanted.encode())
    elif found != wanted:
        name = target.relative_to(package.parent).as_posix()
        lines = (found.splitlines(keepends=True), wanted.splitlines(keepends=True))
        sys.stdout.writelines(difflib.unified_diff(*lines, name, "what the sources ask for"))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
