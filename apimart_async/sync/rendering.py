"""The classes and functions of one async module, rendered as their blocking twins."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Mapping  # attrs resolves them at run time
from typing import Final, TypeAlias

import attrs

from apimart_async.sync.reading import Edit, Import, Imports, Source, fitted

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

_PORTAL: Final = Import("apimart_async.sync.portal", "Portal")
_CONTEXT_MANAGER: Final = {
    Import("contextlib", "AbstractContextManager"),
    Import("collections.abc", "Iterator"),
}

# What a twin has besides public names. All other private methods are the async class's own affair.
_SPECIAL: Final = frozenset({"__aenter__", "__aexit__", "__reduce__", "__repr__"})

# How docstrings speak, besides the names of the classes.
_WORDING: Final = (
    (re.compile(r"\bawait (?=[\w.]+\()"), ""),
    (re.compile(r"\basync (?=(?:with|for|def) )"), ""),
    (re.compile(r"\ban asynchronous (?=context manager)"), "a "),
    (re.compile(r"\ban asynchronous (?=iterator)"), "an "),
)


@attrs.define
class Renderer:
    """Turns the classes and functions of one async module into their twins.

    Args:
        source: The module.
        twins: Every async class and its twin.
        imports: Where to note what is needed.
    """

    source: Source
    twins: Mapping[str, str]
    imports: Imports

    def render_class(self, node: ast.ClassDef, *, is_root: bool) -> Iterator[str]:
        """Render a class; a root is made by the user, any other by the class it is an attribute of."""
        if node.bases or node.keywords or node.decorator_list:
            self.source.refuse(node, f"class {node.name} has bases or decorators")
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
                case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]) if (
                    name.startswith("_")
                ):
                    pass
                case _:
                    self.source.refuse(item, f"class {node.name} holds more than methods and resources")
        yield f"class {self.twins[node.name]}:"
        yield from self._docstring(node, "    ")
        yield ""
        yield from (f"    {name}: {kind}" for name, kind in resources)
        yield from [""] * bool(resources)
        yield from self._beginning(node, methods, resources, is_root=is_root)
        for method in methods:
            if not method.name.startswith("_") or method.name in _SPECIAL:
                yield ""
                yield from self._method(method, node.name, is_root=is_root)

    def render_function(self, node: Function) -> Iterator[str]:
        """Render a function whose first argument is a client."""
        first = self._passed(node.args.args[0]) if node.args.args else ""
        client, _, wrapped = first.partition(".")
        if not wrapped:
            self.source.refuse(node, f"the first argument of {node.name} is not a client")
        callee = Import(self.source.module, node.name, f"async_{node.name}")
        self.imports.at_run_time.add(callee)
        yield from self._definition(node, callee=callee.alias, portal=f"{client}._portal", indent="")

    def _beginning(
        self, node: ast.ClassDef, methods: list[Function], resources: list[tuple[str, str]], *, is_root: bool
    ) -> Iterator[str]:
        """Render how a twin comes by its async object and its portal."""
        given = f"wrapped: {node.name}, portal: Portal"
        kept = ["        self._wrapped = wrapped", "        self._portal = portal"]
        kept += [f"        self.{name} = {kind}(wrapped.{name}, portal)" for name, kind in resources]
        origin = Import(self.source.module, node.name)
        if not is_root:
            self.imports.for_types |= {origin, _PORTAL}
            yield from [f"    def __init__(self, {given}) -> None:", *kept]
            return
        self.imports.at_run_time |= {origin, _PORTAL, Import("typing", "Self")}
        init = next((method for method in methods if method.name == "__init__"), None)
        if init is None:
            self.source.refuse(node, f"class {node.name} has no __init__")
        parameters, arguments = self._signature(init)
        yield from fitted("def __init__(", parameters, ") -> None:", "    ")
        yield from fitted(f"wrapped = {node.name}(", arguments, ")", "        ")
        yield from ["        self._attach(wrapped, Portal(wrapped.close))", ""]
        yield from [f"    def _attach(self, {given}) -> Self:", *kept, "        return self"]

    def _method(self, node: Function, owner: str, *, is_root: bool) -> Iterator[str]:
        callee = f"self._wrapped.{node.name}"
        match node:
            case ast.AsyncFunctionDef(name="__aenter__"):
                yield "    def __enter__(self) -> Self:"
                yield from [f"        self._portal.call({callee})", "        return self"]
            case ast.AsyncFunctionDef(name="__aexit__"):
                yield from fitted("def __exit__(", self._signature(node)[0], ") -> None:", "    ")
                yield "        self._portal.close()"
            case ast.AsyncFunctionDef(name="close") if is_root:
                yield "    def close(self) -> None:"
                yield from self._docstring(node, "        ")
                yield "        self._portal.close()"
            case ast.FunctionDef(name="__repr__"):
                yield "    def __repr__(self) -> str:"
                yield '        return repr(self._wrapped).removeprefix("Async")'
            case ast.FunctionDef(decorator_list=[ast.Name(id="property")], returns=ast.expr() as returns):
                yield "    @property"
                yield f"    def {node.name}(self) -> {self._type(returns)}:"
                yield from self._docstring(node, "        ")
                yield f"        return {callee}"
            case _:
                yield from self._definition(
                    node, callee=callee, portal="self._portal", indent="    ", owner=owner
                )

    def _definition(
        self, node: Function, *, callee: str, portal: str, indent: str, owner: str = ""
    ) -> Iterator[str]:
        """Render a function that passes its arguments on in the way its result demands."""
        if node.decorator_list:
            self.source.refuse(node, f"{node.name} is decorated")
        if node.returns is None:
            self.source.refuse(node, f"{node.name} does not say what it returns")
        parameters, arguments = self._signature(node)
        passed_on = [callee, *arguments]
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
                self.imports.for_types |= _CONTEXT_MANAGER
                result, head = (
                    f"AbstractContextManager[Iterator[{self._type(item)}]]",
                    f"return {portal}.open(",
                )
            case _, ast.Name(id=kind) if kind in {"Self", owner}:
                result, head, passed_on = "Self", f"wrapped = {callee}(", arguments
                end = [f"{indent}    return object.__new__(type(self))._attach(wrapped, {portal})"]
            case _:
                result, head, passed_on = self._type(node.returns), f"return {callee}(", arguments
        yield from fitted(f"def {node.name}(", parameters, f") -> {result}:", indent)
        if not node.name.startswith("__"):
            yield from self._docstring(node, f"{indent}    ")
        yield from fitted(head, passed_on, ")", f"{indent}    ")
        yield from end

    def _signature(self, node: Function) -> tuple[list[str], list[str]]:
        """Return the parameters as they are declared, and the arguments that pass them on."""
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
                arguments.append(self._passed(argument))
            if number == len(spec.posonlyargs):
                parameters.append("/")
        if spec.vararg:
            parameters.append(f"*{self._parameter(node, spec.vararg)}")
            arguments.append(f"*{spec.vararg.arg}")
        elif spec.kwonlyargs:
            parameters.append("*")
        for argument, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True):
            parameters.append(self._parameter(node, argument, default))
            arguments.append(f"{argument.arg}={self._passed(argument)}")
        if spec.kwarg:
            parameters.append(f"**{self._parameter(node, spec.kwarg)}")
            arguments.append(f"**{spec.kwarg.arg}")
        return parameters, arguments

    def _parameter(self, node: Function, argument: ast.arg, default: ast.expr | None = None) -> str:
        if argument.annotation is None:
            self.source.refuse(argument, f"{argument.arg} of {node.name} has no type")
        declared = f"{argument.arg}: {self._type(argument.annotation)}"
        return declared if default is None else f"{declared} = {self._default(default)}"

    def _passed(self, argument: ast.arg) -> str:
        """Return what is passed on for an argument: for a client, the async one in it."""
        if argument.annotation is None:
            return argument.arg
        kinds = frozenset(self.source.text(argument.annotation).split(" | "))
        if kinds.isdisjoint(self.twins):
            return argument.arg
        if not kinds <= self.twins.keys():
            self.source.refuse(argument, f"{argument.arg} may be a client or something else")
        return f"{argument.arg}._wrapped"

    def _type(self, node: ast.expr) -> str:
        return self.source.text(node, self._edits(node))

    def _edits(self, node: ast.expr) -> Iterator[Edit]:
        """Yield what a type needs to suit a blocking twin, and note what it has to import."""
        match node:
            case ast.Name(id=name) if name in self.twins:
                yield *self.source.span(node), self.twins[name]
            case ast.Name():
                self._need(node, self.imports.for_types)
            case ast.Attribute(value=value):
                yield from self._edits(value)
            case ast.Subscript(value=ast.Name(id="Literal") as value):
                self._need(value, self.imports.for_types)
            case ast.Subscript(value=value, slice=inner):
                yield from self._edits(value)
                yield from self._edits(inner)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                yield from self._union_edits(left, right)
            case ast.Tuple(elts=items) | ast.List(elts=items):
                for item in items:
                    yield from self._edits(item)
            case ast.Constant(value=value) if not isinstance(value, str):
                pass
            case _:
                self.source.refuse(node, f"{self.source.text(node)} is no type that is known here")

    def _union_edits(self, left: ast.expr, right: ast.expr) -> Iterator[Edit]:
        """Leave out what a blocking caller cannot have: ``Iterable[X] | AsyncIterable[X]`` has one side."""
        if _is_async_iterable(right):
            yield self.source.span(left)[1], self.source.span(right)[1], ""
            yield from self._edits(left)
        elif _is_async_iterable(left):
            yield self.source.span(left)[0], self.source.span(right)[0], ""
            yield from self._edits(right)
        else:
            yield from self._edits(left)
            yield from self._edits(right)

    def _default(self, node: ast.expr) -> str:
        edits: list[Edit] = []
        for name in ast.walk(node):
            if isinstance(name, ast.Name):
                origin = self.source.origins.get(name.id)
                if origin is not None and origin.module == self.source.module:
                    edits.append((*self.source.span(name), f"{self._module()}.{name.id}"))
                else:
                    self._need(name, self.imports.at_run_time)
        return self.source.text(node, edits)

    def _module(self) -> str:
        """Return the name of the source's module, imported: what is in it may be named as in another."""
        parent, _, name = self.source.module.rpartition(".")
        self.imports.at_run_time.add(Import(parent, name))
        return name

    def _need(self, node: ast.Name, imports: set[Import]) -> None:
        """Note the import of a name, and refuse one that cannot be imported or is for async callers."""
        origin = self.source.origins.get(node.id)
        if node.id.startswith(("_", "Async", "AbstractAsync", "Coroutine")) or (
            origin is None and not hasattr(builtins, node.id)
        ):
            self.source.refuse(node, f"{node.id} means nothing to a blocking twin")
        if origin is not None:
            imports.add(origin)

    def _docstring(self, node: ast.ClassDef | Function, indent: str) -> Iterator[str]:
        match node.body[0]:
            case ast.Expr(value=ast.Constant(value=str()) as text):
                words = self.source.text(text)
            case _:
                self.source.refuse(node, f"{node.name} has no docstring")
        for pattern, replacement in _WORDING:
            words = pattern.sub(replacement, words)
        known = "|".join(map(re.escape, self.twins))
        yield indent + re.sub(rf"\b(?:{known})\b", lambda found: self.twins[found[0]], words)


def _is_async_iterable(node: ast.expr) -> bool:
    match node:
        case ast.Subscript(value=ast.Name(id="AsyncIterable" | "AsyncIterator")):
            return True
        case _:
            return False
