"""Redirects of the API: followed once, within the origin, and only where the body goes along."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from apimart_async import (
    APIStatusError,
    AsyncApimart,
    AsyncAppleRouter,
    InternalServerError,
    Retry,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Exchange, RawServer, Seen

GIF = bytes.fromhex("47494638396101000100800000ffffff0000002c00000000010001000002024401003b")
ACCEPTED = b'{"code":200,"data":[{"status":"submitted","task_id":"task_01J"}]}'
MADE = b'{"created":1713833628,"data":[{"url":"https://f.example/0.png"}]}'
PICTURE = "https://pictures.example/photo.jpg"


def redirecting(
    raw_server: RawServer, answer: Callable[[Seen], tuple[int, str] | None], good: bytes = MADE
) -> None:
    """Answer requests with the redirect that ``answer`` gives, or with a good answer for ``None``."""

    async def handle(exchange: Exchange) -> None:
        redirect = answer(await exchange.read())
        if redirect is None:
            await exchange.answer(good)
        else:
            status, location = redirect
            await exchange.answer(b"<html>moved</html>", status, {"Location": location})

    raw_server.handle = handle


def apple_router(raw_server: RawServer) -> AsyncAppleRouter:
    return AsyncAppleRouter("sk-test", base_url=raw_server.base_url, retry=Retry(initial_delay=0.01))


async def edit(client: AsyncAppleRouter) -> None:
    assert (await client.edits.create(GIF, "stars", model="another")).images


@pytest.fixture
def elsewhere(raw_server: RawServer) -> Iterator[str]:
    """The same server under another name, which is another origin."""
    yield raw_server.base_url.replace("127.0.0.1", "localhost")
    assert not [seen for seen in raw_server.seen if seen.headers["host"].startswith("localhost")]


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_redirect_that_would_drop_the_body_is_refused(raw_server: RawServer, status: int) -> None:
    redirecting(raw_server, lambda _: (status, "/v1/images/edits"))
    async with apple_router(raw_server) as client:
        with pytest.raises(APIStatusError) as caught:
            await edit(client)
    message = caught.value.message
    assert f"redirects to {raw_server.base_url}/v1/images/edits, which was not followed" in message
    assert f"HTTP {status} would not keep the method and the body" in message
    assert message.endswith("Check base_url.")
    assert caught.value.status == status
    assert [(seen.method, seen.path) for seen in raw_server.seen] == [("POST", "/v1/images/edits/")]


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_to_the_other_form_is_followed_with_the_whole_request_and_remembered(
    raw_server: RawServer, status: int
) -> None:
    redirecting(raw_server, lambda seen: (status, seen.path[:-1]) if seen.path.endswith("/") else None)
    async with apple_router(raw_server) as client:
        await edit(client)
        await edit(client)
    assert [seen.path for seen in raw_server.seen] == [
        "/v1/images/edits/",
        "/v1/images/edits",
        "/v1/images/edits",
    ]
    first, second, _ = raw_server.seen
    assert first.body == second.body
    assert GIF in second.body
    assert second.headers["authorization"] == "Bearer sk-test"


async def test_apimart_is_followed_to_the_form_with_a_slash(raw_server: RawServer) -> None:
    redirecting(
        raw_server, lambda seen: None if seen.path.endswith("/") else (308, f"{seen.path}/"), ACCEPTED
    )
    async with AsyncApimart("sk-test", base_url=raw_server.base_url) as client:
        first = await client.edits.create(PICTURE, "stars")
        await client.edits.create(PICTURE, "stars")
    assert [seen.path for seen in raw_server.seen] == [
        "/v1/images/edits",
        "/v1/images/edits/",
        "/v1/images/edits/",
    ]
    assert raw_server.seen[0].headers["idempotency-key"] == first.idempotency_key
    assert raw_server.seen[1].headers["idempotency-key"] == first.idempotency_key
    assert json.loads(raw_server.seen[1].body)["image_urls"] == [PICTURE]


async def test_a_poll_is_followed_too(raw_server: RawServer) -> None:
    task = b'{"data":{"id":"task_1","status":"queued"}}'
    redirecting(
        raw_server, lambda seen: (307, f"/v2{seen.path}") if seen.path.startswith("/v1") else None, task
    )
    async with AsyncApimart("sk-test", base_url=raw_server.base_url) as client:
        assert (await client.tasks.get("task_1")).status == "queued"
    assert raw_server.seen[-1].path == "/v2/v1/tasks/task_1?language=en"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_another_origin_is_never_followed_and_never_sees_the_key(
    raw_server: RawServer, elsewhere: str, status: int
) -> None:
    places = [f"{elsewhere}/v1/images/edits", elsewhere.replace("http:", "https:"), "//localhost/x"]
    places += [raw_server.base_url.replace("http:", "https:"), "http://127.0.0.1:1/", "file:///etc/passwd"]
    for place in places:
        redirecting(raw_server, lambda _, place=place: (status, place))  # type: ignore[misc]
        async with apple_router(raw_server) as client:
            with pytest.raises(APIStatusError, match="another host must not see the key"):
                await edit(client)
    assert len(raw_server.seen) == len(places)


async def test_only_one_redirect_is_followed(raw_server: RawServer) -> None:
    redirecting(
        raw_server, lambda _: (307, f"/v{len(raw_server.seen) + 1}") if len(raw_server.seen) < 3 else None
    )
    async with apple_router(raw_server) as client:
        with pytest.raises(APIStatusError, match="/v3, which was not followed: only one redirect"):
            await edit(client)
        await edit(client)
    assert [seen.path for seen in raw_server.seen] == ["/v1/images/edits/", "/v2", "/v1/images/edits/"]


async def test_a_second_redirect_to_another_origin_is_not_followed(
    raw_server: RawServer, elsewhere: str
) -> None:
    redirecting(raw_server, lambda seen: (307, f"{elsewhere}/" if seen.path == "/here" else "/here"))
    async with apple_router(raw_server) as client:
        with pytest.raises(APIStatusError, match="another host"):
            await edit(client)
    assert len(raw_server.seen) == 2


@pytest.mark.parametrize(
    "location",
    ["", "/v1/images/edits/", "http://[bad/", "http://a:99999/", "#here", "?", "\\\\evil.example/x"],
)
async def test_a_location_that_leads_nowhere_is_an_error_of_the_service(
    raw_server: RawServer, location: str
) -> None:
    redirecting(raw_server, lambda _: (307, location))
    async with apple_router(raw_server) as client:
        with pytest.raises(APIStatusError, match="not followed"):
            await edit(client)
    assert len(raw_server.seen) <= 2


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/a b/ü", "/a%20b/%C3%BC"),
        ("/a%20b?x=1&y=%2F#fragment", "/a%20b?x=1&y=%2F"),
        ("http://user:password@{host}/there", "/there"),
    ],
)
async def test_a_location_is_requested_as_an_address_can_be(
    raw_server: RawServer, location: str, path: str
) -> None:
    place = location.replace("{host}", raw_server.base_url.removeprefix("http://"))
    redirecting(raw_server, lambda seen: (307, place) if seen.path == "/v1/images/edits/" else None)
    async with apple_router(raw_server) as client:
        await edit(client)
    assert raw_server.seen[-1].path == path
    assert raw_server.seen[-1].headers["authorization"] == "Bearer sk-test"


async def test_a_form_that_works_no_longer_is_forgotten(raw_server: RawServer) -> None:
    answers: dict[str, Any] = {"/v1/images/edits/": (307, "/moved"), "/moved": None}

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        answer = answers[seen.path]
        if answer is None:
            await exchange.answer(MADE)
        elif answer == 404:
            await exchange.answer(b"{}", 404)
        else:
            await exchange.answer(b"", answer[0], {"Location": answer[1]})

    raw_server.handle = handle
    async with apple_router(raw_server) as client:
        await edit(client)
        answers |= {"/v1/images/edits/": None, "/moved": 404}
        with pytest.raises(APIStatusError):
            await edit(client)
        await edit(client)
    assert [seen.path for seen in raw_server.seen] == [
        "/v1/images/edits/",
        "/moved",
        "/moved",
        "/v1/images/edits/",
    ]


async def test_a_failure_after_a_redirect_is_judged_like_any_other(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        if seen.path == "/there":
            await exchange.answer(b'{"error":{"message":"build_request_failed"}}', 500)
        else:
            await exchange.answer(b"", 307, {"Location": "/there"})

    raw_server.handle = handle
    async with apple_router(raw_server) as client:
        with pytest.raises(InternalServerError) as caught:
            await edit(client)
    assert caught.value.url == f"{raw_server.base_url}/there"
    assert len(raw_server.seen) == 2
