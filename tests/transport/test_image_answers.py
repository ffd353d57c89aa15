"""Images inside answers: base64 in every spelling, and answers of any size, which never block the loop."""

from __future__ import annotations

import base64
import gzip
import json
import random
import sys
import textwrap
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from apimart_async import AsyncApimart, AsyncAppleRouter, Limits, SubmissionIndeterminateError
from apimart_async.emulator import Emulator, Fault
from apimart_async.transport.json import loads
from apimart_async.transport.media.sniffing import identify

from .conftest import png_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

    from .conftest import Exchange, RawServer

KEY = "sk-test"
GIF = bytes.fromhex("47494638396101000100800000ffffff0000002c00000000010001000002024401003b")


def png(size: int, seed: int = 0) -> bytes:
    return png_of(random.Random(seed).randbytes(size - len(png_of(b""))))


def in_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


# The bytes behind the head are such that both alphabets differ, and the length such that there is padding.
JPEG = b"\xff\xd8\xff\xfe" + (2 + 8000).to_bytes(2) + b"\xfb\xef\xbe\xff" * 2000 + b"\xff\xd9"
PNG = png(5002)
WEBP = b"RIFF" + (1000 + 4).to_bytes(4, "little") + b"WEBPVP8 " + bytes([251]) * 996

SPELLINGS: dict[str, Callable[[bytes], dict[str, Any]]] = {
    "documented": lambda content: {"b64_json": in_base64(content)},
    "with its scheme": lambda content: {"b64_json": f"data:image/webp;base64,{in_base64(content)}"},
    "with its scheme in capitals": lambda content: {
        "b64_json": f"DATA:IMAGE/PNG;BASE64,{in_base64(content)}"
    },
    "without the name of its scheme": lambda content: {"b64_json": f"image/png;base64,{in_base64(content)}"},
    "with the URL-safe alphabet": lambda content: {"b64_json": base64.urlsafe_b64encode(content).decode()},
    "without padding": lambda content: {"b64_json": in_base64(content).rstrip("=")},
    "with too much padding": lambda content: {"b64_json": in_base64(content).rstrip("=") + "=="},
    "in lines": lambda content: {"b64_json": "\r\n".join(textwrap.wrap(in_base64(content), 76)) + "\n"},
    "in lines after an empty one": lambda content: {"b64_json": "\n" + base64.encodebytes(content).decode()},
    "all at once": lambda content: {
        "b64_json": "\n data:image/png;base64,"
        + "\n".join(textwrap.wrap(base64.urlsafe_b64encode(content).decode().rstrip("="), 60))
    },
    "as a URL": lambda content: {"url": in_base64(content)},
    "as a URL in lines": lambda content: {"url": base64.encodebytes(content).decode()},
    "as a URL with the URL-safe alphabet": lambda content: {
        "url": base64.urlsafe_b64encode(content).decode()
    },
    "beside an empty URL": lambda content: {"url": "", "b64_json": in_base64(content)},
    "beside a list of no URL": lambda content: {"url": [""], "urls": None, "b64_json": in_base64(content)},
    "in a list": lambda content: {"b64_json": [in_base64(content)]},
}
CONTENTS = {"jpeg": JPEG, "png": PNG, "webp": WEBP, "gif": GIF}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
async def test_an_image_in_base64_is_saved_however_it_is_spelled(
    raw_server: RawServer, tmp_path: Path, spelling: str, content: bytes
) -> None:
    entry = SPELLINGS[spelling](content)

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        task = {"id": "task_1", "status": "completed", "result": {"images": [entry]}}
        answer = {"data": task} if "tasks" in seen.path else {"created": 1, "data": [entry]}
        await exchange.answer(json.dumps(answer).encode())

    raw_server.handle = handle
    async with AsyncAppleRouter(KEY, base_url=raw_server.base_url) as router:
        result = await router.edits.create(GIF, "stars", model="another")
        (path,) = await router.images.save(result, tmp_path / "router")
    assert path.read_bytes() == content
    assert result.images[0].url.lower().startswith("data:image/")
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        (path,) = await client.images.save(await client.tasks.get("task_1"), tmp_path / "task")
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
async def test_a_bare_image_gets_its_own_type(raw_server: RawServer, content: bytes) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(json.dumps({"created": 1, "data": [{"b64_json": in_base64(content)}]}).encode())

    raw_server.handle = handle
    async with AsyncAppleRouter(KEY, base_url=raw_server.base_url) as router:
        result = await router.edits.create(GIF, "stars", model="another")
    assert result.images[0].url.startswith(f"data:{identify(content).content_type};base64,")


def router(raw_server: RawServer, answer: bytes) -> AsyncAppleRouter:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(answer)

    raw_server.handle = handle
    return AsyncAppleRouter(KEY, base_url=raw_server.base_url)


async def test_an_image_beside_its_url_is_taken_itself(raw_server: RawServer) -> None:
    """A URL expires."""
    both = {"url": f"{raw_server.base_url}/0.png", "b64_json": in_base64(PNG)}
    other = {"url": f"{raw_server.base_url}/1.png", "b64_json": "see the URL"}
    async with router(raw_server, json.dumps({"data": [both, other]}).encode()) as client:
        result = await client.generations.create("stars", model="another", n=2)
        assert await client.images.read(result.images[0]) == PNG
    assert result.images[1].url == other["url"]


@pytest.mark.parametrize(
    "answer", [[{"b64_json": in_base64(PNG)}], {"data": "data:image/png;base64," + in_base64(PNG)}]
)
async def test_an_image_without_the_usual_object_around_it_is_not_lost(
    raw_server: RawServer, answer: Any
) -> None:
    async with router(raw_server, json.dumps(answer).encode()) as client:
        result = await client.generations.create("stars", model="another")
        assert await client.images.read(result.images[0]) == PNG


async def test_fewer_images_than_were_asked_for_are_a_warning(
    raw_server: RawServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with router(raw_server, json.dumps({"data": [{"b64_json": in_base64(PNG)}]}).encode()) as client:
        await client.generations.create("stars", model="another")
        async with client.generations.stream("stars", model="another") as events:
            assert len([event async for event in events]) == 1
        assert not caplog.records
        await client.generations.create("stars", model="another", n=3)
        async with client.generations.stream("stars", model="another", n=3) as events:
            assert len([event async for event in events]) == 1
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line.partition(": ")[2] for line in said] == ["1 of 3 images came."] * 2


async def test_an_answer_with_a_task_instead_of_images_names_it(raw_server: RawServer) -> None:
    answer = b'{"code":200,"data":[{"status":"submitted","task_id":"task_1"}]}'
    async with router(raw_server, answer) as client:
        with pytest.raises(SubmissionIndeterminateError) as caught:
            await client.generations.create("stars", model="another")
    assert caught.value.task_id == "task_1"


async def test_a_url_that_resembles_base64_remains_a_url(raw_server: RawServer) -> None:
    urls = ["/9j/4AAQ", "iVBORw0KGgo", "/files/0.png", "//host.example/0.png", "files/" + "a" * 90, "R0lGOD"]

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(json.dumps({"created": 1, "data": [{"url": url} for url in urls]}).encode())

    raw_server.handle = handle
    async with AsyncAppleRouter(KEY, base_url=raw_server.base_url) as router:
        result = await router.edits.create(GIF, "stars", model="another", n=6)
    assert not any(image.url.startswith("data:") for image in result.images)
    assert len(result.images) == 6


async def test_the_emulator_rotates_through_the_spellings(
    photographs: dict[str, Path], tmp_path: Path
) -> None:
    async with (
        Emulator(task_seconds=0, variants=True) as emulator,
        AsyncAppleRouter(emulator.api_key, base_url=emulator.base_url) as router,
    ):
        for number in range(12):
            result = await router.edits.create(
                photographs["chelsea.png"], f"{number}", model="another", response_format="b64_json", n=2
            )
            assert len(await router.images.save(result, tmp_path / str(number))) == 2
        assert len(emulator.ledger.entries) == 12


# --- size -------------------------------------------------------------------------------------------------


@pytest.mark.long
async def test_a_paid_answer_of_many_large_images_is_saved(
    photographs: dict[str, Path], tmp_path: Path
) -> None:
    large = Fault(kind="large-images", size=14 * 1024 * 1024)
    async with (
        Emulator(task_seconds=0, images="tiny", faults=[large]) as emulator,
        AsyncAppleRouter(emulator.api_key, base_url=emulator.base_url) as router,
    ):
        result = await router.edits.create(
            photographs["chelsea.png"], "stars", model="another", response_format="b64_json", n=4
        )
        paths = await router.images.save(result, tmp_path)
        assert [path.stat().st_size for path in paths] == [14 * 1024 * 1024] * 4
        assert len(emulator.ledger.entries) == 1


@pytest.mark.long
@pytest.mark.parametrize("announced", [True, False])
async def test_an_answer_above_64_mib_is_read_whole(
    raw_server: RawServer,
    announced: bool,  # noqa: FBT001 a parameter of the test
) -> None:
    images = [png(14 * 1024 * 1024, seed) for seed in range(4)]
    body = json.dumps({"created": 1, "data": [{"b64_json": in_base64(image)} for image in images]}).encode()
    urls = [{"url": f"data:image/png;base64,{in_base64(image)}"} for image in images]
    completed = {"id": "task_1", "status": "completed", "result": {"images": urls}}
    task = json.dumps({"data": completed}).encode()
    assert len(body) > 64 * 1024 * 1024

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        whole = task if "tasks" in seen.path else body
        if announced:
            await exchange.answer(whole)
            return
        chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(whole), whole)
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        exchange.writer.write(head + chunks)
        await exchange.writer.drain()

    raw_server.handle = handle
    async with AsyncAppleRouter(KEY, base_url=raw_server.base_url) as router:
        result = await router.edits.create(GIF, "stars", model="another", n=4)
        assert [await router.images.read(image) for image in result.images] == images
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        found = await client.tasks.get("task_1")
        assert [await client.images.read(image) for image in found.images] == images
    assert len(raw_server.seen) == 2


async def test_tasks_whose_images_do_not_fit_into_a_shared_answer_are_polled_singly(
    raw_server: RawServer,
) -> None:
    image = in_base64(png(30_000))

    def body(task_id: str) -> dict[str, Any]:
        images = [{"url": f"data:image/png;base64,{image}"}]
        return {"id": task_id, "status": "completed", "result": {"images": images}}

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        ids = (
            json.loads(seen.body)["task_ids"]
            if seen.body
            else [seen.path.partition("?")[0].rpartition("/")[2]]
        )
        data: Any = [body(task_id) for task_id in ids] if seen.body else body(ids[0])
        await exchange.answer(json.dumps({"code": 200, "data": data}).encode())

    raw_server.handle = handle
    limits = Limits(answer_bytes=50_000)
    async with (
        AsyncApimart(KEY, base_url=raw_server.base_url, limits=limits, max_retries=0) as client,
        client.tasks.watch(["task_1", "task_2", "task_3"]) as finished,
    ):
        found = {task.id: task async for task in finished}
    assert all(task.is_completed and len(task.images) == 1 for task in found.values())
    assert set(found) == {"task_1", "task_2", "task_3"}


async def test_a_paid_answer_above_its_limit_is_indeterminate(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(b'{"created":1,"data":[{"b64_json":"' + b"A" * 200_000 + b'"}]}')

    raw_server.handle = handle
    limits = Limits(image_answer_bytes=100_000)
    async with AsyncAppleRouter(KEY, base_url=raw_server.base_url, limits=limits) as router:
        with pytest.raises(SubmissionIndeterminateError, match=r"Limits\.image_answer_bytes"):
            await router.edits.create(GIF, "stars", model="another")
    assert len(raw_server.seen) == 1


@pytest.mark.parametrize("packed", [False, True])
async def test_a_large_answer_is_read_by_other_threads_than_the_loop_s(
    raw_server: RawServer,
    packed: bool,  # noqa: FBT001 a parameter of the test
) -> None:
    images = [png(2_000_000, seed) for seed in range(2)]
    body = json.dumps({"created": 1, "data": [{"b64_json": in_base64(image)} for image in images]}).encode()

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(gzip.compress(body) if packed else body)

    raw_server.handle = handle
    called: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and "apimart_async" in frame.f_code.co_filename:
            called[frame.f_code.co_name] += 1

    async with AsyncAppleRouter(KEY, base_url=raw_server.base_url) as router:
        sys.setprofile(note)  # of this thread alone
        try:
            result = await router.edits.create(GIF, "stars", model="another", n=2)
            assert [await router.images.read(image) for image in result.images] == images
        finally:
            sys.setprofile(None)
    assert {"read_answer", "_attempt", "open_download"} <= set(called)
    for name in ("loads", "read_response", "read_image_set", "decompress", "_decode_body", "_decode_base64"):
        assert not called[name]


# --- JSON of any size -------------------------------------------------------------------------------------

LONG = "iVBORw0KGgo" * 200_000
DOCUMENTS: dict[str, Any] = {
    "a long text": {"a": LONG, "b": [LONG[:70_000], {"c": LONG}], "d": "short"},
    "escaped slashes": {"a": "ab/+" * 400_000},
    "line breaks": {"a": "abcd\r\n" * 300_000},
    "quotation marks and backslashes": {"a": 'x"y\\' * 400_000, "b\\": '\\"', "c": "\\" * 100_000},
    "other characters": {"ä": "ü€𝄞\x7f" * 400_000},
    "many short texts": [{"id": str(number), "n": number} for number in range(60_000)],
    "one text alone": LONG,
    "a long name": {LONG: [1, 2.5, True, None]},
    "deep": [[[[[[[{"a": [LONG]}]]]]]]],
}


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("style", ["plain", "ascii", "php"])
def test_large_json_is_decoded_like_small(document: str, style: str) -> None:
    expected = DOCUMENTS[document]
    text = json.dumps(expected, ensure_ascii=style == "ascii", indent=1 if style == "ascii" else None)
    if style == "php":
        text = text.replace("/", "\\/")
    assert loads(text.encode()) == expected
