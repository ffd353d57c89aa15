"""Write the blocking twins from the async sources.

    python -m apimart_async.sync.generate [--check]

The sources are ``resources``, ``client``, ``applerouter`` and ``batch``. Each public class ``AsyncX`` becomes
``X``, with the same signatures and docstrings; each method body becomes one call of ``portal.py``. Exported
functions whose first argument is a client follow. An unsupported construct is an error with its place.
``--check`` writes nothing; it compares the whole file and prints the differences.

One rule breaks long lines, and formatters leave its output alone, so the output depends on no formatter.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import copy
import difflib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence  # attrs resolves them at run time
from pathlib import Path
from typing import Final, TypeAlias

import attrs

PACKAGE: Final = Path(__file__).resolve().parent.parent
FLOORS: Final = ("resources/*.py", "client.py", "applerouter.py", "batch/*.py")
LINE_LENGTH: Final = 110
HEADER: Final = '''\
"""The blocking twins of the async clients, method for method.

Written by ``python -m apimart_async.sync.generate``: change the async sources instead.
"""
# ruff: noqa: SLF001  # the twins open one another
# pyright: reportPrivateUsage=false

from __future__ import annotations
'''

# The private methods that a twin has too.
_SPECIAL: Final = frozenset({"__aenter__", "__aexit__", "__reduce__", "__repr__"})

# The docstring of a twin is without these words.
_ASYNC_WORDS: Final = re.compile(
    r"\bawait (?=[\w.]+\()|\basync (?=(?:with|for|def) )"
    r"|(?<=\ba)n async(?:hronous)?(?= context manager)|(?<=\ban )async(?:hronous)? (?=iterator)"
)

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class UnsupportedError(Exception):
    """An async source has a construct that the generator does not support."""


@attrs.frozen(order=True)
class Import:
    """One imported name, or a module if ``name`` is empty."""

    module: str
    name: str = ""
    alias: str = ""

    @property
    def local(self) -> str:
        """Return the name in the importing module."""
        return self.alias or self.name or self.module.partition(".")[0]


_PORTAL: Final = Import("apimart_async.sync.portal", "Portal")
_ITERATION: Final = {Import("contextlib", "AbstractContextManager"), Import("collections.abc", "Iterator")}


@attrs.define
class Imports:
    """The imports of the generated module."""

    at_run_time: set[Import] = attrs.field(factory=set[Import])
    for_types: set[Import] = attrs.field(factory=set[Import])

    def render(self) -> str:
        """Return both blocks of imports.

        Raises:
            UnsupportedError: Two imports have the same name.
        """
        typing = {item for item in self.for_types if item.module == "typing"}
        at_run_time = self.at_run_time | typing | {Import("typing", "TYPE_CHECKING")}
        for_types = self.for_types - at_run_time
        known: dict[str, Import] = {}
        for item in sorted(at_run_time | for_types):
            if known.setdefault(item.local, item) != item:
                raise UnsupportedError(f"{item.local} would be both {known[item.local]} and {item}.")
        block = _sections(for_types, "    ")
        return _sections(at_run_time, "") + (f"\n\nif TYPE_CHECKING:\n{block}" if block else "")


def _sections(imports: Iterable[Import], indent: str) -> str:
    """Sort imports as isort does: standard library, others, the package; modules before names."""
    modules: dict[tuple[int, bool, str], list[Import]] = {}
    for item in imports:
        root = item.module.partition(".")[0]
        section = 0 if root in sys.stdlib_module_names else 2 if root == PACKAGE.name else 1
        modules.setdefault((section, bool(item.name), item.module), []).append(item)
    sections: dict[int, list[str]] = {}
    for (section, has_names, module), items in sorted(modules.items()):
        items.sort(key=lambda item: (not item.name.isupper(), item.name[:1].islower(), item))
        names = [(item.name or module) + (f" as {item.alias}" if item.alias else "") for item in items]
        lines = [f"{indent}import {name}" for name in names]
        if has_names:
            lines = _fitted(f"from {module} import ", names, "", indent, brackets="()")
        sections.setdefault(section, []).extend(lines)
    return "\n\n".join("\n".join(lines) for _, lines in sorted(sections.items()))


def _fitted(head: str, items: Sequence[str], tail: str, indent: str, *, brackets: str = "") -> list[str]:
    """Return one line if it is short enough, otherwise one for each item, in ``brackets`` if given."""
    line = f"{indent}{head}{', '.join(items)}{tail}"
    if len(line) <= LINE_LENGTH:
        return [line]
    first, last = f"{indent}{head}{brackets[:1]}", f"{indent}{brackets[1:]}{tail}"
    return [first, *(f"{indent}    {item}," for item in items), last]


def _unparse(node: ast.expr) -> str:
    return ast.unparse(node).replace("'", '"')


@attrs.frozen
class Module:
    """One async module.

    Attributes:
        path: The path that errors name.
        name: The dotted name.
        text: The source.
        tree: The parsed source.
        origins: The import behind each of its names.
    """

    path: str
    name: str
    text: str
    tree: ast.Module
    origins: Mapping[str, Import]

    @classmethod
    def read(cls, file: Path, package: Path) -> Module:
        """Parse a module of the package and collect the origins of its names."""
        path = file.relative_to(package.parent)
        parts = path.with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = file.read_text("utf-8")
        tree = ast.parse(text, str(path))
        found: list[Import] = []
        for_types = [item for node in tree.body if isinstance(node, ast.If) for item in node.body]
        for node in [*tree.body, *for_types]:
            match node:
                case ast.Import(names=names):
                    found += [Import(item.name, alias=item.asname or "") for item in names]
                case ast.ImportFrom(module=str(origin), names=names):
                    found += [Import(origin, item.name, item.asname or "") for item in names]
                case (
                    ast.ClassDef(name=local)
                    | ast.AnnAssign(target=ast.Name(id=local))
                    | ast.Assign(targets=[ast.Name(id=local)])
                ):
                    found.append(Import(name, local))
                case _:
                    pass
        return cls(path.as_posix(), name, text, tree, {item.local: item for item in found})

    def error(self, node: ast.AST, message: str) -> UnsupportedError:
        """Return the error for an unsupported node."""
        return UnsupportedError(f"{self.path}:{getattr(node, 'lineno', 1)}: {message}.")


@attrs.define
class Renderer(ast.NodeTransformer):
    """Renders the blocking twins of one module; as a transformer, it visits the types in signatures.

    Args:
        module: The async module.
        twins: Every async class and its twin.
        imports: Collects the imports of the output.
    """

    module: Module
    twins: Mapping[str, str]
    imports: Imports

    def render_class(self, node: ast.ClassDef) -> Iterator[str]:
        """Render a class. One with ``close`` is a client; any other is an attribute of a client."""
        if node.bases or node.keywords or node.decorator_list:
            raise self.module.error(node, f"class {node.name} has bases or decorators")
        resources: list[tuple[str, str]] = []
        methods: list[Function] = []
        for item in node.body[1:]:
            match item:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    methods.append(item)
                case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id=kind)) if (
                    kind in self.twins
                ):
                    resources.append((name, self.twins[kind]))
                case ast.Assign(targets=[ast.Name(id=name)]) if name.startswith("_"):
                    pass
                case _:
                    raise self.module.error(item, f"class {node.name} holds more than methods and resources")
        yield f"class {self.twins[node.name]}:"
        yield from [*self._docstring(node, "    "), ""]
        yield from (f"    {name}: {kind}" for name, kind in resources)
        yield from [""] * bool(resources)
        yield from self._initialisation(node, methods, resources)
        for method in methods:
            if not method.name.startswith("_") or method.name in _SPECIAL:
                yield from ["", *self._method(method, node.name)]

    def render_function(self, node: Function) -> Iterator[str]:
        """Render a function whose first argument is a client."""
        first = self._argument(node.args.args[0]) if node.args.args else ""
        client, _, wrapped = first.partition(".")
        if not wrapped:
            raise self.module.error(node, f"the first argument of {node.name} is not a client")
        callee = Import(self.module.name, node.name, f"async_{node.name}")
        self.imports.at_run_time |= {callee, Import(_PORTAL.module, "portal_of")}
        yield from self._definition(node, callee=callee.alias, portal=f"portal_of({client})", indent="")

    def _initialisation(
        self, node: ast.ClassDef, methods: list[Function], resources: list[tuple[str, str]]
    ) -> Iterator[str]:
        """Render the methods that store the async object and its portal."""
        given = f"wrapped: {node.name}, portal: Portal"
        kept = ["        self._wrapped = wrapped", "        self._portal = portal"]
        kept += [f"        self.{name} = {kind}(wrapped.{name}, portal)" for name, kind in resources]
        imports = {Import(self.module.name, node.name), _PORTAL}
        by_name = {method.name: method for method in methods}
        if "close" not in by_name:
            self.imports.for_types |= imports
            yield from [f"    def __init__(self, {given}) -> None:", *kept]
            return
        self.imports.at_run_time |= imports | {Import("typing", "Self")}
        parameters, arguments = self._signature(by_name["__init__"])
        yield from _fitted("def __init__(", parameters, ") -> None:", "    ")
        yield from self._hidden_arguments(by_name["__init__"])
        yield from _fitted(f"wrapped = {node.name}(", arguments, ")", "        ")
        yield from ["        self._attach(wrapped, Portal(wrapped.close))", ""]
        yield from [f"    def _attach(self, {given}) -> Self:", *kept, "        return self"]

    def _method(self, node: Function, owner: str) -> Iterator[str]:
        callee = f"self._wrapped.{node.name}"
        match node:
            case ast.AsyncFunctionDef(name="__aenter__"):
                yield "    def __enter__(self) -> Self:"
                yield from [f"        self._portal.call({callee})", "        return self"]
            case ast.AsyncFunctionDef(name="__aexit__"):
                yield from _fitted("def __exit__(", self._signature(node)[0], ") -> None:", "    ")
                yield "        self._portal.close()"
            case ast.AsyncFunctionDef(name="close"):
                yield "    def close(self) -> None:"
                yield from [*self._docstring(node, "        "), "        self._portal.close()"]
            case ast.FunctionDef(name="__repr__"):
                yield "    def __repr__(self) -> str:"
                # Without the client that it wraps while that could not be made.
                yield '        wrapped = getattr(self, "_wrapped", None)'
                yield '        shown = f"Async{type(self).__name__}(…)" if wrapped is None else repr(wrapped)'
                yield '        return shown.removeprefix("Async")'
            case ast.FunctionDef(decorator_list=[ast.Name(id="property")], returns=ast.expr() as returns):
                yield from ["    @property", f"    def {node.name}(self) -> {self._type(returns)}:"]
                yield from [*self._docstring(node, "        "), f"        return {callee}"]
            case _:
                yield from self._definition(
                    node, callee=callee, portal="self._portal", indent="    ", owner=owner
                )

    def _definition(
        self, node: Function, *, callee: str, portal: str, indent: str, owner: str = ""
    ) -> Iterator[str]:
        """Render a function; the type of its result decides how the body makes the call."""
        if node.decorator_list:
            raise self.module.error(node, f"{node.name} is decorated")
        if node.returns is None:
            raise self.module.error(node, f"{node.name} has no return type")
        parameters, arguments = self._signature(node)
        passed = [callee, *arguments]
        end: list[str] = []
        match node, node.returns:
            case ast.AsyncFunctionDef(), ast.Constant(value=None):
                result, head = "None", f"{portal}.call("
            case ast.AsyncFunctionDef(), returns:
                result, head = self._type(returns), f"return {portal}.call("
            case _, ast.Subscript(
                value=ast.Name(id="AbstractAsyncContextManager"),
                slice=ast.Subscript(value=ast.Name(id="AsyncIterator"), slice=item),
            ):
                self.imports.for_types |= _ITERATION
                result = f"AbstractContextManager[Iterator[{self._type(item)}]]"
                head = f"return {portal}.open("
            case _, ast.Name(id=kind) if kind in {"Self", owner}:
                result, head, passed = "Self", f"wrapped = {callee}(", arguments
                end = [f"{indent}    return object.__new__(type(self))._attach(wrapped, {portal})"]
            case _:
                result, head, passed = self._type(node.returns), f"return {callee}(", arguments
        yield from _fitted(f"def {node.name}(", parameters, f") -> {result}:", indent)
        if not node.name.startswith("__"):
            yield from self._docstring(node, f"{indent}    ")
        yield from [*self._hidden_arguments(node), *_fitted(head, passed, ")", f"{indent}    "), *end]

    def _hidden_arguments(self, node: Function) -> Iterator[str]:
        """Render the statements that hide secrets before an error can show them."""
        for name in ("api_key", "proxy"):
            if any(argument.arg == name for argument in [*node.args.args, *node.args.kwonlyargs]):
                self.imports.at_run_time.add(Import("apimart_async.credentials", "hide"))
                yield f"        {name} = hide({name})"

    def _signature(self, node: Function) -> tuple[list[str], list[str]]:
        """Return the parameters as declared, and the arguments that pass them on."""
        spec = node.args
        positional = [*spec.posonlyargs, *spec.args]
        defaults = [*[None] * (len(positional) - len(spec.defaults)), *spec.defaults]
        parameters: list[str] = []
        arguments: list[str] = []
        for number, (argument, default) in enumerate(zip(positional, defaults, strict=True), 1):
            if argument.arg == "self":
                parameters.append("self")
            else:
                parameters.append(self._parameter(node, argument, default))
                arguments.append(self._argument(argument))
            if number == len(spec.posonlyargs):
                parameters.append("/")
        if spec.vararg:
            parameters.append(f"*{self._parameter(node, spec.vararg)}")
            arguments.append(f"*{spec.vararg.arg}")
        elif spec.kwonlyargs:
            parameters.append("*")
        for argument, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True):
            parameters.append(self._parameter(node, argument, default))
            arguments.append(f"{argument.arg}={self._argument(argument)}")
        if spec.kwarg:
            parameters.append(f"**{self._parameter(node, spec.kwarg)}")
            arguments.append(f"**{spec.kwarg.arg}")
        return parameters, arguments

    def _parameter(self, node: Function, argument: ast.arg, default: ast.expr | None = None) -> str:
        if argument.annotation is None:
            raise self.module.error(argument, f"{argument.arg} of {node.name} has no type")
        declared = f"{argument.arg}: {self._type(argument.annotation)}"
        return declared if default is None else f"{declared} = {self._default(default)}"

    def _argument(self, argument: ast.arg) -> str:
        """Return the expression that passes an argument on: of a client, its async client."""
        kinds = set(_unparse(argument.annotation).split(" | ")) if argument.annotation else set[str]()
        if kinds.isdisjoint(self.twins):
            return argument.arg
        if not kinds <= self.twins.keys():
            raise self.module.error(argument, f"{argument.arg} may be a client or something else")
        return f"{argument.arg}._wrapped"

    def _type(self, node: ast.expr) -> str:
        return _unparse(self.visit(copy.deepcopy(node)))

    def visit_Name(self, node: ast.Name) -> ast.Name:  # the name is ast's
        """Replace an async class by its twin, and import any other type."""
        if node.id in self.twins:
            return ast.Name(self.twins[node.id])
        self._need(node, self.imports.for_types)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Leave the values of a Literal alone."""
        if isinstance(node.value, ast.Name) and node.value.id == "Literal":
            self.visit(node.value)
            return node
        return super().generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """Drop the async side of ``Iterable[X] | AsyncIterable[X]``."""
        for side, other in ((node.left, node.right), (node.right, node.left)):
            match side:
                case ast.Subscript(value=ast.Name(id="AsyncIterable" | "AsyncIterator")):
                    return self.visit(other)  # type: ignore[no-any-return]
                case _:
                    pass
        return super().generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Visit the parts of a type; any other expression is unsupported."""
        match node:
            case ast.Constant(value=str()) | ast.Call() | ast.Lambda() | ast.JoinedStr():
                raise self.module.error(node, f"{ast.unparse(node)} is an unsupported type")
            case _:
                return super().generic_visit(node)

    def _default(self, node: ast.expr) -> str:
        node = copy.deepcopy(node)
        for name in ast.walk(node):
            if isinstance(name, ast.Name):
                origin = self.module.origins.get(name.id)
                if origin is not None and origin.module == self.module.name:
                    name.id = f"{self._import_module()}.{name.id}"
                else:
                    self._need(name, self.imports.at_run_time)
        return _unparse(node)

    def _import_module(self) -> str:
        """Import the module itself, whose names may also occur in other modules, and return its name."""
        parent, _, name = self.module.name.rpartition(".")
        self.imports.at_run_time.add(Import(parent, name))
        return name

    def _need(self, node: ast.Name, imports: set[Import]) -> None:
        """Add the import of a name, unless it is unknown or for async callers only."""
        origin = self.module.origins.get(node.id)
        is_unknown = origin is None and not hasattr(builtins, node.id)
        if is_unknown or node.id.startswith(("_", "Async", "AbstractAsync", "Coroutine")):
            raise self.module.error(node, f"{node.id} means nothing to a blocking twin")
        if origin is not None:
            imports.add(origin)

    def _docstring(self, node: ast.ClassDef | Function, indent: str) -> Iterator[str]:
        match node.body[0]:
            case ast.Expr(value=ast.Constant(value=str()) as text):
                words = ast.get_source_segment(self.module.text, text) or ""
            case _:
                raise self.module.error(node, f"{node.name} has no docstring")
        for name, twin in self.twins.items():
            words = re.sub(rf"\b{name}\b", twin, words)
        yield indent + _ASYNC_WORDS.sub("", words)


def render(package: Path) -> str:
    """Return the text of the generated module.

    Args:
        package: Folder of the package to read.

    Raises:
        UnsupportedError: A source has an unsupported construct.
    """
    modules = [Module.read(path, package) for floor in FLOORS for path in sorted(package.glob(floor))]
    exported = re.findall(r'^    "(\w+)",$', (package / "__init__.py").read_text("utf-8"), re.MULTILINE)
    classes: dict[str, Module] = {}
    for module in modules:
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and node.name.startswith("Async"):
                if node.name in classes:
                    raise module.error(node, f"{node.name} is also in {classes[node.name].path}")
                classes[node.name] = module
    twins = {name: name.removeprefix("Async") for name in classes}
    imports = Imports()
    blocks: list[str] = []
    for module in modules:
        renderer = Renderer(module, twins, imports)
        for node in module.tree.body:
            match node:
                case ast.ClassDef(name=name) if name in twins:
                    blocks.append("\n".join(renderer.render_class(node)))
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if name in exported:
                    blocks.append("\n".join(renderer.render_function(node)))
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Name(id=other)) if (
                    name in exported and other in exported
                ):
                    blocks.append(f"{name} = {other}")
                case _:
                    pass
    return "\n\n\n".join([f"{HEADER}\n{imports.render()}", *blocks]) + "\n"


def main(arguments: Sequence[str] | None = None, package: Path = PACKAGE) -> int:
    """Run the command.

    Args:
        arguments: Instead of those of the process.
        package: Folder of the package.

    Returns:
        0 when the twins are up to date, 1 when they are not, 2 when a source is unsupported.
    """
    parser = argparse.ArgumentParser("python -m apimart_async.sync.generate", description="Write the twins.")
    parser.add_argument("--check", action="store_true", help="write nothing; print the differences")
    check = parser.parse_args(arguments).check
    target = package / "sync" / "_generated.py"
    try:
        wanted = render(package)
    except UnsupportedError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    found = target.read_bytes().decode() if target.exists() else ""
    if not check and found != wanted:
        target.write_bytes(wanted.encode())
    elif found != wanted:
        name = target.relative_to(package.parent).as_posix()
        lines = (found.splitlines(keepends=True), wanted.splitlines(keepends=True))
        sys.stdout.writelines(difflib.unified_diff(*lines, name, "generated from the sources"))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
