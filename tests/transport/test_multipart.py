"""Forms: framing, exact length, large chunks, and names that cannot break out."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from apimart_async import AsyncApimart
from apimart_async.transport.media.inputs import Media, open_media
from apimart_async.transport.media.multipart import Body, multipart
from apimart_async.transport.media.sources import InMemory
from apimart_async.transport.retry import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from apimart_async.transport.api import Api

CHUNK = 512 * 1024

NAMES = [
    "photo.png",
    "日本語 写真.png",
    "👩‍🚀 café.webp",
    "שלום.gif",
    "semi;colon=1.png",
    "per%22cent.png",
    "back'tick`.png",
]
HOSTILE_NAMES = [
    'quote".png',
    'a"; filename="evil.php',
    "a\r\nContent-Type: text/html\r\n\r\n<script>.png",
    "--boundary--\r\n.png",
    "a\0b.png",
]


def media(content: bytes, filename: str = "photo.png", content_type: str = "image/png") -> Media:
    return Media("The image", filename, content_type, len(content), InMemory(content))


async def joined(body: Body) -> bytes:
    return b"".join([chunk async for chunk in body.chunks()])


def boundary_of(body: Body) -> str:
    found = re.fullmatch(r"multipart/form-data; boundary=([0-9a-f]{32})", body.content_type)
    assert found
    return found[1]


async def test_form_is_framed_as_rfc_7578_says() -> None:
    body = multipart([("image", media(b"PNG"))], [("prompt", "ein Fuß"), ("n", "2")])
    expected = (
        "--{0}\r\n"
        'Content-Disposition: form-data; name="prompt"\r\n\r\n'
        "ein Fuß\r\n"
        "--{0}\r\n"
        'Content-Disposition: form-data; name="n"\r\n\r\n'
        "2\r\n"
        "--{0}\r\n"
        'Content-Disposition: form-data; name="image"; filename="photo.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
        "PNG\r\n"
        "--{0}--\r\n"
    )
    assert (await joined(body)).decode() == expected.format(boundary_of(body))


async def test_forms_without_files_end_properly() -> None:
    fields = multipart([], [("a", "b")])
    assert (await joined(fields)).endswith(f"b\r\n--{boundary_of(fields)}--\r\n".encode())
    nothing = multipart([])
    assert await joined(nothing) == f"--{boundary_of(nothing)}--\r\n".encode()


@pytest.mark.parametrize("size", [1, 100, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
async def test_length_is_exact_and_framing_has_no_chunk_of_its_own(size: int) -> None:
    body = multipart([("one", media(bytes(size))), ("two", media(b"x"))])
    chunks = [chunk async for chunk in body.chunks()]
    assert sum(map(len, chunks)) == body.length
    assert len(chunks) == -(-size // CHUNK) + 1
    assert chunks == [chunk async for chunk in body.chunks()], "a body can be sent again"


@given(
    st.lists(
        st.tuples(st.text(max_size=20), st.binary(min_size=1, max_size=60), st.text(max_size=30)), max_size=4
    )
)
def test_names_cannot_leave_their_line(parts: list[tuple[str, bytes, str]]) -> None:
    body = multipart([(name, media(content, filename)) for name, content, filename in parts])
    whole = anyio.run(joined, body)
    assert len(whole) == body.length
    delimiter = f"--{boundary_of(body)}".encode()
    before, *found, end = (b"\r\n" + whole).split(b"\r\n" + delimiter)
    assert (before, end) == (b"", b"--\r\n")
    assert len(found) == len(parts)
    for part, (_, content, _) in zip(found, parts, strict=True):
        head, _, received = part.partition(b"\r\n\r\n")
        assert received == content
        disposition, kind = head.removeprefix(b"\r\n").split(b"\r\n")
        assert re.fullmatch(
            rb'Content-Disposition: form-data; name="[^"\r\n\0]*"; filename="[^"\r\n\0]*"', disposition
        )
        assert kind == b"Content-Type: image/png"


@attrs.define
class Received:
    """A form as the server of aiohttp read it."""

    length: int | None
    parts: list[tuple[str | None, str | None, str | None, bytes]]


@asynccontextmanager
async def form_server() -> AsyncGenerator[tuple[Api, list[Received]]]:
    received: list[Received] = []

    async def handle(request: web.Request) -> web.Response:
        reader = await request.multipart()
        form = Received(request.content_length, [])
        while part := await reader.next():
            assert not isinstance(part, type(reader))
            content = bytes(await part.read())  # type: ignore[union-attr]
            form.parts.append((part.name, part.filename, part.headers.get("Content-Type"), content))  # type: ignore[union-attr]
        received.append(form)
        return web.json_response({"code": 200})

    application = web.Application(client_max_size=16 * 1024 * 1024)
    application.router.add_post("/form", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port: Any = runner.addresses[0][1]
    try:
        async with AsyncApimart("sk-test", base_url=f"http://127.0.0.1:{port}") as client:
            yield client.uploads._api, received
    finally:
        await runner.cleanup()


async def test_server_reads_every_name_unchanged() -> None:
    async with form_server() as (service, received):
        for name in NAMES:
            body = multipart([("file", media(b"content", name))], [("prompt", "Füße\r\n🦶")])
            await service.request("POST", "/form", kind=Kind.FREE_WRITE, body=body)
            form = received.pop()
            assert form.length == body.length
            assert form.parts == [
                ("prompt", None, None, "Füße\r\n🦶".encode()),
                ("file", name, "image/png", b"content"),
            ]


async def test_hostile_names_do_not_mislead_a_server(tmp_path: Path) -> None:
    picture = b"\x89PNG\r\n\x1a\n\0\0\0\0IEND\xaeB`\x82"
    async with form_server() as (service, received):
        for name in HOSTILE_NAMES:
            opened = await open_media(picture, filename=name)
            for sent in (opened, media(picture, name)):
                await service.request("POST", "/form", kind=Kind.FREE_WRITE, body=multipart([("file", sent)]))
                ((field, filename, content_type, content),) = received.pop().parts
                assert (field, content_type, content) == ("file", "image/png", picture)
                assert filename
                assert not set(filename) & set('"\r\n\0')


async def test_files_arrive_unchanged(photographs: dict[str, Path]) -> None:
    async with form_server() as (service, received):
        paths = [photographs["astronaut.png"], photographs["chelsea.png"], photographs["rocket.jpg"]]
        files = [("image[]", await open_media(path)) for path in paths]
        body = multipart(files)
        await service.request("POST", "/form", kind=Kind.FREE_WRITE, body=body)
        (form,) = received
        assert form.length == body.length > 2 * CHUNK
        assert [(part[1], part[3]) for part in form.parts] == [
            (path.name, path.read_bytes()) for path in paths
        ]
