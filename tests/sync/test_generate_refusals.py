"""An unsupported construct is an error that names its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.sync.conftest import Package

REFUSED = {
    "class AsyncX(Base): ...": "1: class AsyncX has bases or decorators",
    "@frozen\nclass AsyncX: ...": "2: class AsyncX has bases or decorators",
    "class AsyncX: ...": "1: AsyncX has no docstring",
    "class AsyncX:\n    '''X'''\n    size: int = 1": "3: class AsyncX holds more than methods and resources",
    "class AsyncX:\n    '''X'''\n    if True: ...": "3: class AsyncX holds more than methods and resources",
}
METHODS = {
    "async def get(self, name) -> None": "name of get has no type",
    "async def get(self)": "get has no return type",
    "@cache\n    def get(self) -> int": "get is decorated",
    "@classmethod\n    async def get(cls) -> int": "get is decorated",
    "async def get(self) -> Unknown": "Unknown means nothing to a blocking twin",
    "async def get(self) -> _Secret": "_Secret means nothing to a blocking twin",
    "async def get(self) -> 'Task'": "'Task' is an unsupported type",
    "def get(self) -> AsyncIterator[int]": "AsyncIterator means nothing to a blocking twin",
    "async def get(self, a: AsyncIterable[int]) -> None": "AsyncIterable means nothing to a blocking twin",
    "async def get(self) -> AbstractAsyncContextManager[int]": (
        "AbstractAsyncContextManager means nothing to a blocking twin"
    ),
    "async def get(self, a: AsyncX | None) -> None": "a may be a client or something else",
    "async def get(self, a: int = NOWHERE) -> None": "NOWHERE means nothing to a blocking twin",
}
IMPORTS = """\
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager
"""


@pytest.mark.parametrize(("code", "message"), REFUSED.items())
def test_a_class_that_is_not_foreseen_is_an_error(
    package: Package, capsys: pytest.CaptureFixture[str], code: str, message: str
) -> None:
    package.write("client.py", code)
    assert package.main("--check") == 2
    assert capsys.readouterr().err == f"apimart_async/client.py:{message}.\n"


@pytest.mark.parametrize(
    ("method", "message"),
    [
        *((f"{method}:\n        '''G'''", message) for method, message in METHODS.items()),
        ("async def get(self) -> int: ...", "get has no docstring"),
    ],
)
def test_a_method_that_is_not_foreseen_is_an_error(
    package: Package, capsys: pytest.CaptureFixture[str], method: str, message: str
) -> None:
    code = f"{IMPORTS}class AsyncX:\n    '''X'''\n    def __init__(self) -> None: ...\n    {method}\n"
    package.write("client.py", code)
    assert package.main("--check") == 2
    line = 6 + method.startswith("@")
    assert capsys.readouterr().err == f"apimart_async/client.py:{line}: {message}.\n"


def test_a_function_without_a_client_is_an_error(
    package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    package.write("batch/runner.py", "async def do_many(names: list[str]) -> None: ...\n")
    assert package.main() == 2
    assert "batch/runner.py:1: the first argument of do_many is not a client." in capsys.readouterr().err


def test_a_name_that_is_two_things_is_an_error(package: Package, capsys: pytest.CaptureFixture[str]) -> None:
    for name, origin in (("a", "decimal"), ("b", "fractions")):
        package.write(
            f"resources/{name}.py",
            f"from {origin} import Number\nclass Async{name.upper()}:\n    '''X'''\n"
            "    async def add(self, number: Number) -> None:\n        '''X'''\n",
        )
    assert package.main() == 2
    assert "Number would be both" in capsys.readouterr().err


def test_a_class_that_is_there_twice_is_an_error(
    package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in ("client.py", "applerouter.py"):
        package.write(path, "class AsyncX:\n    '''X'''\n    def __init__(self) -> None: ...\n")
    assert package.main() == 2
    assert "applerouter.py:1: AsyncX is also in apimart_async/client.py." in capsys.readouterr().err
