"""An argument of another type is an InvalidArgumentError that names it, in every public call."""

from __future__ import annotations

import asyncio
import inspect
import io
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from PIL import Image as Pillow

from apimart_async import (
    APIConnectionError,
    Apimart,
    AsyncApimart,
    AsyncAppleRouter,
    Image,
    InvalidArgumentError,
    Job,
    Limits,
    Media,
    Poll,
    Retry,
    Task,
    Timeout,
    edit_many,
    estimate,
    prepare_png,
    run_many,
    sync,
)
from apimart_async.batch import read_outcomes
from apimart_async.webhooks import Deliveries, confirm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

NOWHERE: Final = "http://127.0.0.1:9"
PNG: Final = io.BytesIO()
Pillow.new("RGBA", (16, 16)).save(PNG, "PNG")

VALUES: Final[tuple[object, ...]] = (object(), 5, 2.5, "5", b"x", [1], {"a": object()}, True, None)
GOOD: Final = {
    "image": PNG.getvalue(),
    "prompt": "A starry sky",
    "task": "task_1",
    "tasks": ["task_1"],
    "result": Image("data:image/png;base64,AAAA"),
    "model": "a-model",
    "directory": "out",
    "idempotency_key": "key-1",
    "data": {},
    "request": {"model": "a-model"},
}
# Words in an annotation -> the types of values that it allows.
ALLOWED: Final[dict[str, tuple[type, ...]]] = {
    "None": (type(None),),
    "float": (float, int),
    "int": (int,),
    "bool": (bool,),
    "str": (str,),
    "Literal": (str,),
    "Check": (str,),
    "ApiKey": (str,),
    "OutputFormat": (str,),
    "Background": (str,),
    "Moderation": (str,),
    "ImageInput": (str, bytes),
    "SingleImage": (str, bytes),
    "Mapping": (dict,),
}
# Arguments that take anything, or whose errors name something else.
LEFT_OUT: Final = frozenset({"data", "self"})
CALLED: Final = {"mask": "image", "images": "image", "tasks": "task"}


def wrong_values(annotation: str) -> Iterator[object]:
    allowed = {kind for word, kinds in ALLOWED.items() if word in annotation for kind in kinds}
    yield from (value for value in VALUES if type(value) not in allowed)


def resources(client: type) -> Iterator[tuple[str, type, str]]:
    """Yield the methods of a client and of its resources: attribute of the client, class, method."""
    for attribute, kind in {"": client, **inspect.get_annotations(client, eval_str=True)}.items():
        for name, _ in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_") and name != "close":
                yield attribute, kind, name


METHODS: Final = [
    pytest.param(
        client, attribute, method, parameter, id=f"{client.__name__}.{attribute}.{method}({parameter.name})"
    )
    for client in (AsyncApimart, AsyncAppleRouter)
    for attribute, kind, method in resources(client)
    for parameter in inspect.signature(getattr(kind, method)).parameters.values()
    if parameter.name not in LEFT_OUT
]


@pytest.fixture
async def clients() -> AsyncIterator[dict[type, Any]]:
    """Clients of a service that does not exist: a request would be another error."""
    async with (
        AsyncApimart("key", base_url=NOWHERE, check="off", max_retries=0) as apimart,
        AsyncAppleRouter("key", base_url=NOWHERE, max_retries=0) as router,
    ):
        yield {AsyncApimart: apimart, AsyncAppleRouter: router}


async def use(result: object) -> None:
    """Await a call, or enter and iterate a context manager."""
    if inspect.isawaitable(result):
        await result
    elif isinstance(result, AbstractAsyncContextManager):
        async with cast("AbstractAsyncContextManager[AsyncIterator[object]]", result) as items:
            _ = [item async for item in items]


async def refuses(call: Callable[..., object], arguments: dict[str, object], name: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await use(call(**arguments))
    assert isinstance(caught.value, ValueError)
    assert CALLED.get(name, name) in caught.value.message, arguments[name]


@pytest.mark.parametrize(("client", "attribute", "method", "parameter"), METHODS)
async def test_every_argument_of_a_method(
    clients: dict[type, Any],
    client: type,
    attribute: str,
    method: str,
    parameter: inspect.Parameter,
) -> None:
    owner = getattr(clients[client], attribute) if attribute else clients[client]
    call = getattr(owner, method)
    needed = [each.name for each in inspect.signature(call).parameters.values() if each.default is each.empty]
    good = {name: GOOD[name] for name in needed}
    if attribute == "generations" and method != "collect":
        good["prompt"] = GOOD["prompt"]
    for value in wrong_values(str(parameter.annotation)):
        await refuses(call, good | {parameter.name: value}, parameter.name)


CLASSES: Final = [
    pytest.param(kind, parameter, id=f"{kind.__name__}({parameter.name})")
    for kind in (AsyncApimart, AsyncAppleRouter, Apimart, Timeout, Limits, Retry, Poll, Media)
    for parameter in inspect.signature(kind).parameters.values()
]


@pytest.mark.parametrize(("kind", "parameter"), CLASSES)
async def test_every_argument_of_a_constructor(
    kind: Callable[..., object], parameter: inspect.Parameter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APIMART_API_KEY", "key")
    monkeypatch.setenv("APPLEROUTER_API_KEY", "key")
    for value in wrong_values(str(parameter.annotation)):
        if parameter.name == "result_hosts" and isinstance(value, dict):
            continue  # its keys are texts
        await refuses(kind, {parameter.name: value}, parameter.name)


async def test_every_argument_of_a_batch(clients: dict[type, Any], tmp_path: Path) -> None:
    good = {"client": clients[AsyncApimart], "jobs": [Job("missing.png", "x")], "output": tmp_path / "out"}
    for call in (run_many, estimate):
        parameters = inspect.signature(call).parameters.values()
        known = {each.name for each in parameters}
        for parameter in parameters:
            if parameter.name == "jobs":
                wrong: list[object] = [5, "photo.jpg", None, {"a": 1}, [1], ["photo.jpg"]]
            else:
                wrong = list(wrong_values(str(parameter.annotation)))
            for value in wrong:
                arguments = {name: each for name, each in good.items() if name in known}
                await refuses(call, arguments | {parameter.name: value}, parameter.name)


async def test_every_argument_of_a_job(clients: dict[type, Any], tmp_path: Path) -> None:
    for parameter in inspect.signature(Job).parameters.values():
        for value in wrong_values(str(parameter.annotation)):
            if parameter.name == "image" or (parameter.name == "roles" and isinstance(value, bytes | list)):
                continue  # the service of images is another test's subject
            arguments = {"image": PNG.getvalue(), "prompt": "x", parameter.name: value}
            try:
                job = Job(**cast("Any", arguments))
            except InvalidArgumentError as error:
                assert f"Job.{parameter.name}" in error.message  # noqa: PT017 the outcome may tell it, too
                continue
            async with run_many(clients[AsyncApimart], [job], output=tmp_path) as outcomes:
                (outcome,) = [each async for each in outcomes]
            assert isinstance(outcome.error, InvalidArgumentError)
            assert parameter.name in outcome.error.message


async def test_arguments_of_the_other_functions(clients: dict[type, Any]) -> None:
    for wrong in (5, b"x"):
        with pytest.raises(InvalidArgumentError, match="output"):
            read_outcomes(cast("Any", wrong))
        with pytest.raises(InvalidArgumentError, match="journal"):
            read_outcomes("out", journal=cast("Any", wrong))
    for size in ("256", 256.5, None, [256]):
        with pytest.raises(InvalidArgumentError, match="size"):
            prepare_png(PNG.getvalue(), cast("Any", size))
    for limit in ("5", None, True):
        with pytest.raises(InvalidArgumentError, match="limit"):
            Deliveries(cast("Any", limit))
    for twin in (sync.run_many, sync.edit_many, sync.estimate):
        with pytest.raises(
            InvalidArgumentError,
            match=r"^client must be an Apimart or an AppleRouter \(apimart_async has .* not AsyncA",
        ):
            cast("Any", twin)(clients[AsyncApimart], [], output="out")
    with pytest.raises(InvalidArgumentError, match="task must be"):
        await confirm(clients[AsyncApimart], cast("Any", "task_1"))
    with pytest.raises(InvalidArgumentError, match="timeout"):
        await confirm(clients[AsyncApimart], Task("task_1", "completed"), timeout=cast("Any", "8"))


def test_examples_of_the_documentation() -> None:
    for arguments, message in (
        ({"api_key": 123}, "api_key must be a text, or a function that returns the key, not int."),
        ({"timeout": "5"}, "timeout must be a Timeout or a number of seconds, not str."),
        ({"max_retries": "2"}, "max_retries must be a whole number, not str."),
        ({"limits": {}}, "limits must be a Limits, not dict."),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            AsyncApimart(**{"api_key": "key", **cast("Any", arguments)})
        assert str(caught.value) == message


async def test_a_key_of_another_type_is_not_shown() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        AsyncApimart(cast("Any", b"sk-secret"))
    assert "secret" not in repr(caught.value)

    async def key() -> bytes:
        return b"sk-secret"

    async with AsyncApimart(cast("Any", key), base_url=NOWHERE) as client:
        with pytest.raises(InvalidArgumentError, match="The result of the function api_key") as late:
            await client.account.balance()
    assert "secret" not in repr(late.value)


async def test_the_function_of_a_key_may_be_an_object_without_a_hash() -> None:
    @dataclass
    class Vault:
        key: str

        def __call__(self) -> str:
            return self.key

    async with AsyncApimart(Vault("sk"), base_url=NOWHERE, max_retries=0) as client:
        for each in (client, client.with_options(api_key=Vault("sk-2"))):
            with pytest.raises(APIConnectionError):
                await each.account.balance()
            assert "sk" not in repr(each._settings)


def test_the_error_for_a_blocking_client_names_the_module_that_takes_it() -> None:
    client = cast("Any", sync.Apimart("sk-emulator"))

    async def run() -> None:
        async with run_many(client, [], output="out"):
            pass

    with pytest.raises(InvalidArgumentError, match=r"\(apimart_async\.sync has run_many .*, not Apimart\.$"):
        asyncio.run(run())
    with pytest.raises(InvalidArgumentError, match=r"\(apimart_async\.sync has estimate .*, not Apimart\.$"):
        asyncio.run(estimate(client, []))
    client.close()


class AwaitedObject:
    def __init__(self, _: object) -> None: ...

    async def __call__(self, *_: object) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    "make", [lambda function: function, lambda function: partial(function, 1), AwaitedObject]
)
async def test_async_functions_are_refused_where_they_would_not_be_awaited(
    clients: dict[type, Any], make: Callable[[object], object], tmp_path: Path
) -> None:
    async def called(*_: object) -> None:
        raise AssertionError

    client, function = clients[AsyncApimart], make(called)
    for call in (
        lambda: client.edits.run("https://p.example/a", "stars", on_update=function),
        lambda: client.generations.run("stars", on_update=function),
        lambda: client.tasks.wait("task_1", on_update=function),
        lambda: use(edit_many(client, [], output=tmp_path, on_progress=cast("Any", function))),
    ):
        with pytest.raises(InvalidArgumentError, match=r"on_\w+ must be a plain function, not an async"):
            await call()
    with pytest.raises(InvalidArgumentError, match=r"Media\.on_convert must be a plain function"):
        Media(on_convert=cast("Any", function))
