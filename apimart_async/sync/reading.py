"""The async modules as the generator of the twins sees them: their text, and where their names come from."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence  # attrs resolves them at run time
from typing import Final, NoReturn, TypeAlias

import attrs

LINE_LENGTH: Final = 110

Edit: TypeAlias = tuple[int, int, str]
"""The offsets of the first byte and of the one after the last, and what to put there."""


class NotForeseenError(Exception):
    """The async sources hold something that the generator does not know."""


@attrs.frozen(order=True)
class Import:
    """One imported name, or a whole module when there is no ``name``."""

    module: str
    name: str = ""
    alias: str = ""

    @property
    def local(self) -> str:
        """Return the name it goes by."""
        return self.alias or self.name or self.module.partition(".")[0]


@attrs.frozen
class Source:
    """One async module.

    Attributes:
        path: Where it is, as messages say it.
        module: Its dotted name.
        data: Its text as UTF-8, whose bytes are what ``ast`` counts as columns.
        tree: The same, parsed.
        origins: Where the names in it come from.
    """

    path: str
    module: str
    data: bytes
    tree: ast.Module
    origins: Mapping[str, Import]

    def refuse(self, node: ast.AST, what: str) -> NoReturn:
        """Raise the error that names the place."""
        raise NotForeseenError(f"{self.path}:{getattr(node, 'lineno', 1)}: {what}.")

    def span(self, node: ast.expr) -> tuple[int, int]:
        """Return the offsets between which an expression stands."""
        lines = [len(line) for line in self.data.splitlines(keepends=True)]
        start = sum(lines[: node.lineno - 1]) + node.col_offset
        return start, sum(lines[: (node.end_lineno or node.lineno) - 1]) + (node.end_col_offset or 0)

    def text(self, node: ast.expr, edits: Iterable[Edit] = ()) -> str:
        """Return an expression as it is written, but for the edits."""
        start, end = self.span(node)
        pieces: list[str] = []
        for first, last, replacement in sorted(edits):
            pieces += [self.data[start:first].decode(), replacement]
            start = last
        return "".join([*pieces, self.data[start:end].decode()])


def read_source(path: str, module: str, data: bytes) -> Source:
    """Parse a module and find out where its names come from."""
    tree = ast.parse(data, path)
    origins: dict[str, Import] = {}
    for node in _top_level(tree):
        found: list[Import] = []
        match node:
            case ast.Import(names=names):
                found = [Import(name.name, alias=name.asname or "") for name in names]
            case ast.ImportFrom(module=origin, names=names, level=level):
                above = module.split(".")[:-level] if level else []
                origin = ".".join([*above, *([origin] if origin else [])])
                found = [Import(origin, name.name, name.asname or "") for name in names]
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found = [Import(module, name)]
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                found = [Import(module, name)]
            case _:
                pass
        origins.update((item.local, item) for item in found)
    return Source(path, module, data, tree, origins)


def _top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in tree.body:
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), body=body):
                yield from body
            case _:
                yield node


@attrs.define
class Imports:
    """What the generated module has to import, gathered while it is rendered."""

    at_run_time: set[Import] = attrs.field(factory=set[Import])
    for_types: set[Import] = attrs.field(factory=set[Import])

    def render(self, package: str) -> str:
        """Return both blocks of imports of a module of the package.

        Raises:
            NotForeseenError: One name stands for two things.
        """
        typing = {item for item in self.for_types if item.module == "typing"}
        at_run_time = self.at_run_time | typing | {Import("typing", "TYPE_CHECKING")}
        for_types = self.for_types - at_run_time
        known: dict[str, Import] = {}
        for item in sorted(at_run_time | for_types):
            if known.setdefault(item.local, item) != item:
                raise NotForeseenError(f"{item.local} would be both {known[item.local]} and {item}.")
        block = _sections(for_types, package, "    ")
        return _sections(at_run_time, package, "") + (f"\n\nif TYPE_CHECKING:\n{block}" if block else "")


def _sections(imports: Iterable[Import], package: str, indent: str) -> str:
    """Sort imports as isort does: standard library, others, the package; modules before names."""
    modules: dict[tuple[int, bool, str], list[Import]] = {}
    for item in imports:
        root = item.module.partition(".")[0]
        section = 0 if root in sys.stdlib_module_names else 2 if root == package else 1
        modules.setdefault((section, bool(item.name), item.module), []).append(item)
    sections: dict[int, list[str]] = {}
    for (section, has_names, module), items in sorted(modules.items()):
        # Constants, classes, the rest.
        items.sort(key=lambda item: (not item.name.isupper(), item.name[:1].islower(), item))
        names = [(item.name or module) + (f" as {item.alias}" if item.alias else "") for item in items]
        if has_names:
            lines = fitted(f"from {module} import ", names, "", indent, brackets="()")
        else:
            lines = [f"{indent}import {name}" for name in names]
        sections.setdefault(section, []).extend(lines)
    return "\n\n".join("\n".join(lines) for _, lines in sorted(sections.items()))


def fitted(head: str, items: Sequence[str], tail: str, indent: str, *, brackets: str = "") -> list[str]:
    """Return one line if it is short enough, and else one for each item, in ``brackets`` if given."""
    line = f"{indent}{head}{', '.join(items)}{tail}"
    if len(line) <= LINE_LENGTH:
        return [line]
    opening, closing = brackets[:1], brackets[1:]
    return [
        f"{indent}{head}{opening}",
        *(f"{indent}    {item}," for item in items),
        f"{indent}{closing}{tail}",
    ]
