"""The twins as they are imported: complete, with the signatures and docstrings of their async classes."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
from typing import Any

import pytest

import apimart_async
from apimart_async import sync
from apimart_async.sync import Apimart, AppleRouter, _generated
from apimart_async.sync.portal import Portal

FLOORS = ("resources", "client", "applerouter", "batch")


def async_classes() -> dict[str, type[Any]]:
    """Return every public async class by its name, wherever it is."""
    names = [f"apimart_async.{floor}" for floor in FLOORS]
    floors = [importlib.import_module(name) for name in names if importlib.util.find_spec(name)]
    modules = floors + [
        importlib.import_module(f"{floor.__name__}.{item.name}")
        for floor in floors
        for item in pkgutil.iter_modules(getattr(floor, "__path__", ()))
    ]
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type) and name.startswith("Async") and value.__module__ == module.__name__
    }


CLASSES = async_classes()
METHODS = [
    pytest.param(name, method, id=f"{name}.{method}")
    for name, kind in CLASSES.items()
    for method, value in vars(kind).items()
    if callable(value) and not method.startswith("_")
]


def words(text: str | None) -> str:
    """Return the words of a docstring without those in which a twin may differ."""
    assert text
    text = re.sub(r"\b(await|async|asynchronous|an?)\b", "", text)
    return " ".join(re.sub(r"\bAsync(?=[A-Z])", "", text).split())


def test_the_package_exports_both_blocking_clients() -> None:
    assert apimart_async.Apimart is Apimart
    assert apimart_async.AppleRouter is AppleRouter


def test_there_is_something_to_compare() -> None:
    assert {"AsyncApimart", "AsyncUploads", "AsyncEdits", "AsyncTasks", "AsyncImages"} <= CLASSES.keys()
    assert len(METHODS) >= 10


def test_every_async_class_has_a_twin_that_is_exported() -> None:
    twins = {name.removeprefix("Async") for name in CLASSES}
    assert twins <= set(sync.__all__)
    assert all(getattr(sync, name) is getattr(_generated, name) for name in sync.__all__)
    assert dir(sync) == sync.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="AsyncApimart"):
        _ = sync.AsyncApimart


@pytest.mark.parametrize("name", CLASSES)
def test_a_twin_has_the_public_names_and_words_of_its_class(name: str) -> None:
    twin = getattr(_generated, name.removeprefix("Async"))

    def public(kind: type[Any]) -> set[str]:
        return {item for item in (*vars(kind), *inspect.get_annotations(kind)) if not item.startswith("_")}

    assert public(twin) == public(CLASSES[name])
    assert words(twin.__doc__) == words(CLASSES[name].__doc__)


@pytest.mark.parametrize(("name", "method"), METHODS)
def test_a_method_has_the_parameters_and_words_of_its_twin(name: str, method: str) -> None:
    ours = getattr(getattr(_generated, name.removeprefix("Async")), method)
    theirs = getattr(CLASSES[name], method)
    assert not inspect.iscoroutinefunction(ours)
    assert words(ours.__doc__) == words(theirs.__doc__)

    def parameters(function: Any) -> list[tuple[Any, ...]]:
        found = inspect.signature(function).parameters.values()
        return [(item.name, item.kind, item.default, item.annotation) for item in found]

    assert parameters(ours) == parameters(theirs)


@pytest.mark.parametrize("name", ["Apimart", "AppleRouter"])
def test_a_client_is_made_as_its_twin(name: str) -> None:
    twin = getattr(_generated, name)
    assert list(inspect.signature(twin).parameters.values()) == list(
        inspect.signature(CLASSES[f"Async{name}"]).parameters.values()
    )


def test_a_client_shows_its_base_url_and_cannot_be_pickled() -> None:
    client = Apimart("sk-secret", base_url="https://example.org")
    assert repr(client) == "Apimart(base_url='https://example.org')"
    assert client.base_url == "https://example.org"
    with pytest.raises(apimart_async.InvalidArgumentError, match="pickle"):
        client.__reduce__()


def test_a_copy_shares_connections_and_class() -> None:
    class Mine(Apimart):
        pass

    client = Mine("sk-secret", base_url="https://example.org")
    copy = client.with_options(max_retries=0)
    assert isinstance(copy, Mine)
    assert isinstance(vars(copy)["_portal"], Portal)
    assert vars(copy)["_portal"] is vars(client)["_portal"]
    copy.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.tasks.get("task_01")
