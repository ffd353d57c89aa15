"""Requests as they arrive at the service, to the byte."""

from __future__ import annotations

import email.parser
import email.policy
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs
import pytest

from apimart_async import AsyncApimart, AsyncAppleRouter, InvalidArgumentError

if TYPE_CHECKING:
    from .conftest import Exchange, RawServer, Seen

GIF = bytes.fromhex("47494638396101000100800000ffffff0000002c00000000010001000002024401003b")
GIF_URL = "data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACwAAAAAAQABAAACAkQBADs="
SUBMITTED = b'{"code":200,"data":[{"status":"submitted","task_id":"task_1"}]}'
UPLOADED = b'{"url":"https://u.example/%d.gif","filename":"a.gif","content_type":"image/gif","bytes":35}'


@pytest.fixture
def recorder(raw_server: RawServer) -> RawServer:
    """A service that accepts everything and numbers its uploads."""

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        if "upload" in seen.path:
            await exchange.answer(UPLOADED % len(raw_server.seen))
        elif seen.headers["content-type"].startswith("multipart/"):
            await exchange.answer(b'{"created":1713833628,"data":[{"url":"https://f.example/0.png"}]}')
        else:
            await exchange.answer(b'{"code":200,"data":[{"status":"submitted","task_id":"task_1"}]}')

    raw_server.handle = handle
    return raw_server


GENERATIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing but a prompt": ({}, {}),
    "every option": (
        {
            "model": "any-model",
            "size": "16:9",
            "resolution": "2k",
            "n": 3,
            "quality": "high",
            "output_format": "webp",
            "background": "transparent",
            "webhook": "https://hooks.example/apimart",
            "language": "de",
        },
        {
            "model": "any-model",
            "size": "16:9",
            "resolution": "2k",
            "n": 3,
            "quality": "high",
            "output_format": "webp",
            "background": "transparent",
            "webhook": "https://hooks.example/apimart",
            "language": "de",
        },
    ),
    "an address": ({"images": "https://a.example/b.png"}, {"image_urls": ["https://a.example/b.png"]}),
    "several, in order": (
        {"images": ("https://a.example/b.png", "https://a.example/c.png")},
        {"image_urls": ["https://a.example/b.png", "https://a.example/c.png"]},
    ),
    "a mask of its own": (
        {"images": ["https://a.example/b.png"], "mask": "https://a.example/m.png"},
        {"image_urls": ["https://a.example/b.png"], "mask_url": "https://a.example/m.png"},
    ),
    "a mask alone": ({"mask": "https://a.example/m.png"}, {"mask_url": "https://a.example/m.png"}),
    "an upload": ({"images": GIF}, {"image_urls": ["https://u.example/1.gif"]}),
    "inline": (
        {"images": GIF, "mask": GIF, "inline": True},
        {"image_urls": [GIF_URL], "mask_url": GIF_URL},
    ),
    "no images": ({"images": []}, {}),
    "what nobody has heard of": (
        {"extra_body": {"moderation": "low", "seed": 7, "prompt": "instead"}},
        {"moderation": "low", "seed": 7, "prompt": "instead"},
    ),
}


@pytest.mark.parametrize("case", GENERATIONS)
async def test_a_generation_sends_the_given_fields_and_no_others(recorder: RawServer, case: str) -> None:
    options, body = GENERATIONS[case]
    async with AsyncApimart("sk-test", base_url=recorder.base_url) as client:
        task = await client.generations.create("Ein Sternenhimmel ✨", **options)
    seen = recorder.seen[-1]
    assert (seen.method, seen.path) == ("POST", "/v1/images/generations")
    least = {"model": "gemini-3-pro-image-preview", "prompt": "Ein Sternenhimmel ✨"}
    assert json.loads(seen.body) == least | body
    assert seen.headers["idempotency-key"] == task.idempotency_key
    assert seen.headers["content-type"] == "application/json"


# --- AppleRouter ------------------------------------------------------------------------------------------


@attrs.frozen
class Part:
    """One part of a form, read by the standard library."""

    name: str
    content: bytes
    filename: str | None = None
    content_type: str = "text/plain"


def parts(seen: Seen) -> list[Part]:
    head = f"Content-Type: {seen.headers['content-type']}\r\n\r\n".encode()
    form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + seen.body)
    return [
        Part(
            str(part.get_param("name", header="content-disposition")),
            bytes(part.get_payload(decode=True)),
            part.get_filename(),
            part.get_content_type(),
        )
        for part in form.iter_parts()
    ]


FORMS: dict[str, tuple[dict[str, Any], list[Part]]] = {
    "nothing but a prompt": (
        {},
        [Part("n", b"1"), Part("image", GIF, "image.gif", "image/gif")],
    ),
    "every option": (
        {
            "mask": GIF,
            "n": 2,
            "size": "auto",
            "response_format": "b64_json",
            "user": "someone",
            "extra_body": {"quality": "high", "watermark": False, "seed": 7, "background": None},
        },
        [
            Part("n", b"2"),
            Part("size", b"auto"),
            Part("response_format", b"b64_json"),
            Part("user", b"someone"),
            Part("quality", b"high"),
            Part("watermark", b"false"),
            Part("seed", b"7"),
            Part("image", GIF, "image.gif", "image/gif"),
            Part("mask", GIF, "image.gif", "image/gif"),
        ],
    ),
    "several pictures": (
        {"image": [GIF, GIF_URL]},
        [
            Part("n", b"1"),
            Part("image[]", GIF, "image.gif", "image/gif"),
            Part("image[]", GIF, "image.gif", "image/gif"),
        ],
    ),
    "one picture in a list": (
        {"image": [GIF]},
        [Part("n", b"1"), Part("image", GIF, "image.gif", "image/gif")],
    ),
}


@pytest.mark.parametrize("case", FORMS)
async def test_an_edit_of_applerouter_is_a_form(recorder: RawServer, case: str) -> None:
    options, expected = FORMS[case]
    async with AsyncAppleRouter("sk-test", base_url=recorder.base_url) as client:
        await client.edits.create(**{"image": GIF, "prompt": "stars ✨", "model": "another"} | options)
    (seen,) = recorder.seen
    assert (seen.method, seen.path) == ("POST", "/v1/images/edits/")
    assert parts(seen) == [Part("prompt", "stars ✨".encode()), Part("model", b"another"), *expected]
    assert int(seen.headers["content-length"]) == len(seen.body)
    assert seen.headers["authorization"] == "Bearer sk-test"
    assert "idempotency-key" not in seen.headers


# --- headers ----------------------------------------------------------------------------------------------


async def test_a_session_of_the_callers_sends_the_same(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        answers = {"/v1/uploads/images": UPLOADED % 1, "/v1/images/edits": SUBMITTED, "/a.gif?b=%20c": GIF}
        await exchange.answer(answers.get(seen.path, b'{"data":{"id":"task_1","status":"queued"}}'))

    raw_server.handle = handle

    async def requests(session: aiohttp.ClientSession | None) -> list[Seen]:
        raw_server.seen.clear()
        async with AsyncApimart(
            "sk-test",
            base_url=raw_server.base_url,
            default_headers={"user-agent": "mine", "X-Team": "a"},
            session=session,
        ) as client:
            uploaded = await client.uploads.create(GIF)
            changed = {"x-team": "b", "X-Note": "für euch"}
            await client.edits.create(uploaded, "stars", idempotency_key="k-1", extra_headers=changed)
            await client.tasks.get("task_1")
            assert await client.images.read(f"{raw_server.base_url}/a.gif?b=%20c") == GIF
        for seen in raw_server.seen:
            _, _, boundary = seen.headers.get("content-type", "").partition("boundary=")
            if boundary:
                seen.body = seen.body.replace(boundary.encode(), b"---")
                seen.headers["content-type"] = "multipart/form-data"
        return list(raw_server.seen)

    own = await requests(None)
    async with aiohttp.ClientSession() as session:
        assert own == await requests(session)
    assert own[1].headers["x-team"] == "b"
    assert own[1].headers["user-agent"] == "mine"
    assert own[1].headers["x-note"].encode("latin-1").decode() == "für euch"
    assert json.loads(own[1].body)["prompt"] == "stars"
    assert "authorization" not in own[3].headers


async def test_a_header_that_replaces_the_key_replaces_it_whatever_its_case(raw_server: RawServer) -> None:
    heads: list[str] = []

    async def handle(exchange: Exchange) -> None:
        heads.append((await exchange.reader.readuntil(b"\r\n\r\n")).decode().lower())
        await exchange.answer(SUBMITTED)
        exchange.writer.close()

    raw_server.handle = handle
    for key in ("sk-test", lambda: "sk-test"):
        async with AsyncApimart(key, base_url=raw_server.base_url) as client:
            await client.edits.create(
                "https://p.example/a.png", "stars", extra_headers={"authorization": "Bearer other"}
            )
    assert len(heads) == 2
    for head in heads:
        assert head.count("\r\nauthorization:") == head.count("bearer other") == 1


@pytest.mark.parametrize("value", ["a\r\nb", "a\x0bb", "a\x7f", "\ud800"])
async def test_a_header_that_no_line_can_carry_is_refused(raw_server: RawServer, value: str) -> None:
    async with AsyncApimart("sk-test", base_url=raw_server.base_url) as client:
        with pytest.raises(InvalidArgumentError, match="X-Note"):
            await client.edits.create("https://p.example/a.png", "stars", extra_headers={"X-Note": value})
    assert not raw_server.connections
