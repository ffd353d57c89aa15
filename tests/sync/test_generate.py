"""The generator: its output for each construct, which the committed module must equal."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from inline_snapshot import snapshot

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    import pytest

    from tests.sync.conftest import Package

SOURCE = '''\
"""A sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from apimart_async.config import Timeout

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
    from contextlib import AbstractAsyncContextManager
    from typing import Literal

    from attrs import Attribute as Field

DEFAULT: Final = "größe"


class AsyncThings:
    """Things, for ``AsyncClient``; ``AsyncIterator`` is another word.

    >>> thing = await client.things.get("x")
    """

    _hidden = 1

    def __init__(self, service: object) -> None:
        self._service = service

    async def get(self, name: str, /, kind: Literal["abbbb"] = "a", *, size: str = DEFAULT) -> dict[str, Any]:
        """Get one; you may await its end."""
        return {}

    async def drop(self, *names: str, **options: Callable[[str], Awaitable[None]]) -> None:
        """Drop some."""

    async def fill(
        self,
        things: Iterable[os.PathLike[str]] | AsyncIterable[os.PathLike[str]] | None,
        other: AsyncIterable[int] | Iterable[int],
        *,
        timeout: Timeout = Timeout(total=60.0),
        on_update: Callable[[Field[int]], object] | None = None,
    ) -> list[int]:
        """Fill some."""
        return []

    def watch(self) -> AbstractAsyncContextManager[AsyncIterator[int]]:
        """Return an asynchronous context manager over an asynchronous iterator.

        async with client.things.watch() as numbers:
            async for number in numbers: ...
        """

    async def _private(self) -> None: ...


async def helper() -> None: ...
'''

CLIENT = '''\
"""The root."""

from __future__ import annotations

from apimart_async.resources.things import AsyncThings


class AsyncClient:
    """The root."""

    things: AsyncThings

    def __init__(self, key: str | None = None, *, retries: int = 2) -> None:
        self.things = AsyncThings(self)

    def with_options(self, *, retries: int) -> AsyncClient:
        """Copy."""
        return self

    @property
    def key(self) -> str:
        """Return the key."""
        return ""

    def count(self, start: int = 0) -> int:
        """Count."""
        return start

    async def close(self) -> None:
        """Close."""

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return "AsyncClient()"
'''

RUNNER = '''\
"""A function."""

from __future__ import annotations

from apimart_async.client import AsyncClient


async def do_many(client: AsyncClient, names: list[str], *, limit: int | None = None) -> int:
    """Do many.

    await do_many(client, ["x"])
    """
    return 0


async def not_exported(client: AsyncClient) -> int:
    return 0
'''


def test_the_committed_file_is_the_output_of_the_generator(
    generate: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    code = generate.main(["--check"])
    assert (code, *capsys.readouterr()) == (0, "", "")


def test_each_construct(package: Package) -> None:
    package.write("resources/things.py", SOURCE)
    package.write("client.py", CLIENT)
    package.write("batch/runner.py", RUNNER)
    assert package.render() == snapshot('''\
"""The blocking twins of the async clients, method for method.

Written by ``python -m apimart_async.sync.generate``: change the async sources instead.
"""
# ruff: noqa: SLF001  # the twins open one another
# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from apimart_async.batch.runner import do_many as async_do_many
from apimart_async.client import AsyncClient
from apimart_async.config import Timeout
from apimart_async.resources import things
from apimart_async.sync.portal import Portal, portal_of

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from attrs import Attribute as Field

    from apimart_async.resources.things import AsyncThings


class Things:
    """Things, for ``Client``; ``AsyncIterator`` is another word.

    >>> thing = client.things.get("x")
    """

    def __init__(self, wrapped: AsyncThings, portal: Portal) -> None:
        self._wrapped = wrapped
        self._portal = portal

    def get(
        self,
        name: str,
        /,
        kind: Literal["abbbb"] = "a",
        *,
        size: str = things.DEFAULT,
    ) -> dict[str, Any]:
        """Get one; you may await its end."""
        return self._portal.call(self._wrapped.get, name, kind, size=size)

    def drop(self, *names: str, **options: Callable[[str], Awaitable[None]]) -> None:
        """Drop some."""
        self._portal.call(self._wrapped.drop, *names, **options)

    def fill(
        self,
        things: Iterable[os.PathLike[str]] | None,
        other: Iterable[int],
        *,
        timeout: Timeout = Timeout(total=60.0),
        on_update: Callable[[Field[int]], object] | None = None,
    ) -> list[int]:
        """Fill some."""
        return self._portal.call(self._wrapped.fill, things, other, timeout=timeout, on_update=on_update)

    def watch(self) -> AbstractContextManager[Iterator[int]]:
        """Return a context manager over an iterator.

        with client.things.watch() as numbers:
            for number in numbers: ...
        """
        return self._portal.open(self._wrapped.watch)


class Client:
    """The root."""

    things: Things

    def __init__(self, key: str | None = None, *, retries: int = 2) -> None:
        wrapped = AsyncClient(key, retries=retries)
        self._attach(wrapped, Portal(wrapped.close))

    def _attach(self, wrapped: AsyncClient, portal: Portal) -> Self:
        self._wrapped = wrapped
        self._portal = portal
        self.things = Things(wrapped.things, portal)
        return self

    def with_options(self, *, retries: int) -> Self:
        """Copy."""
        wrapped = self._wrapped.with_options(retries=retries)
        return object.__new__(type(self))._attach(wrapped, self._portal)

    @property
    def key(self) -> str:
        """Return the key."""
        return self._wrapped.key

    def count(self, start: int = 0) -> int:
        """Count."""
        return self._wrapped.count(start)

    def close(self) -> None:
        """Close."""
        self._portal.close()

    def __enter__(self) -> Self:
        self._portal.call(self._wrapped.__aenter__)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._portal.close()

    def __repr__(self) -> str:
        wrapped = getattr(self, "_wrapped", None)
        shown = f"Async{type(self).__name__}(…)" if wrapped is None else repr(wrapped)
        return shown.removeprefix("Async")


def do_many(client: Client, names: list[str], *, limit: int | None = None) -> int:
    """Do many.

    do_many(client, ["x"])
    """
    return portal_of(client).call(async_do_many, client._wrapped, names, limit=limit)
''')


def test_drift_is_printed_and_nothing_written(
    repository: Path, package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(repository / "apimart_async", package.folder, dirs_exist_ok=True)
    source = package.folder / "resources" / "tasks.py"
    source.write_text(source.read_text("utf-8").replace("Fetch a task as it is now.", "Fetch it."), "utf-8")
    generated = package.folder / "sync" / "_generated.py"
    before = generated.read_bytes()
    assert package.main("--check") == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["--- apimart_async/sync/_generated.py", "+++ generated from the sources"]
    assert '-        """Fetch a task as it is now.' in printed
    assert '+        """Fetch it.' in printed
    assert generated.read_bytes() == before

    assert package.main() == 0
    assert b"Fetch it." in generated.read_bytes()
    assert package.main("--check") == 0


def test_a_file_edited_by_hand_is_drift(package: Package, capsys: pytest.CaptureFixture[str]) -> None:
    package.write("client.py", 'class AsyncX:\n    """X."""\n\n    def __init__(self) -> None: ...\n')
    package.write("sync/_generated.py", "")
    assert package.main() == 0
    assert package.main("--check") == 0
    generated = package.folder / "sync" / "_generated.py"
    generated.write_bytes(generated.read_bytes().replace(b"\n", b"\r\n"))
    assert package.main("--check") == 1
    generated.unlink()
    assert package.main("--check") == 1
    assert "+class X:" in capsys.readouterr().out
