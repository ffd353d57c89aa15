"""Images in every form: checked before they are sent, and never sent when changed."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import tempfile
import threading
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest
from PIL import Image

from apimart_async.errors import ImageError, ImageTooLargeError, UnsupportedImageError
from apimart_async.models import Upload
from apimart_async.transport.media import forms, inputs
from apimart_async.transport.media.inputs import MAX_UPLOAD_BYTES, Media, open_and_digest, open_media
from apimart_async.transport.media.multipart import multipart
from apimart_async.transport.media.sources import Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apimart_async.transport.media.forms import ImageInput, SingleImage

PNG = b"\x89PNG\r\n\x1a\n"


def picture(kind: str = "PNG", size: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((size, size), 90).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


async def content_of(opened: Media) -> bytes:
    body = multipart([("file", opened)])
    sent = b"".join([chunk async for chunk in body.chunks()])
    assert len(sent) == body.length
    head, _, rest = sent.partition(b"\r\n\r\n")
    return rest[: -len(head.partition(b"\r\n")[0]) - len(b"\r\n--\r\n")]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """An image of several chunks."""
    path = tmp_path / "photo of me.png"
    path.write_bytes(picture(size=700))
    assert path.stat().st_size > 2 * 512 * 1024
    return path


# --- every form of image ----------------------------------------------------------------------------------

FORMS: dict[str, Callable[[Path], Any]] = {
    "str": str,
    "path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "file": lambda path: path.open("rb"),
    "unbuffered file": lambda path: path.open("rb", buffering=0),
    "bytesio": lambda path: io.BytesIO(path.read_bytes()),
    "data url": lambda path: f"data:image/x;base64,{base64.b64encode(path.read_bytes()).decode()}",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
async def test_every_form_can_be_sent_repeatedly(photo: Path, form: Callable[[Path], Any]) -> None:
    expected = photo.read_bytes()
    given = form(photo)
    opened = await open_media(given)
    assert opened.size == len(expected)
    assert opened.content_type == "image/png"
    for _ in range(2):
        assert await content_of(opened) == expected
    assert (await open_and_digest(given)).digest == hashlib.sha256(expected).hexdigest()
    assert await inputs.data_url(opened) == f"data:image/png;base64,{base64.b64encode(expected).decode()}"
    if hasattr(given, "close"):
        assert not given.closed
        given.close()


async def test_known_file_is_not_digested_again_until_it_changes(photo: Path) -> None:
    media = await open_and_digest(photo)
    assert isinstance(media.source, Stored)
    known = {media.source: "noted"}
    assert await open_and_digest(photo, known) == attrs.evolve(media, digest="noted")
    rewritten(photo)
    assert (await open_and_digest(photo, known)).digest == media.digest


@pytest.mark.parametrize(
    ("kind", "content_type"), [("JPEG", "image/jpeg"), ("WEBP", "image/webp"), ("GIF", "image/gif")]
)
async def test_content_decides_the_type(tmp_path: Path, kind: str, content_type: str) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(picture(kind))
    opened = await open_media(path)
    assert (opened.content_type, opened.filename) == (content_type, "picture.png")


async def test_photographs_can_be_sent(photographs: dict[str, Path]) -> None:
    for path in photographs.values():
        opened = await open_media(path)
        assert (opened.filename, opened.size) == (path.name, path.stat().st_size)


async def test_path_is_resolved_before_a_change_of_directory(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo.parent)
    opened = await open_media(photo.name)
    monkeypatch.chdir("/")
    assert await content_of(opened) == photo.read_bytes()


async def test_path_may_be_any_path_like_object(photo: Path) -> None:
    class Entry:
        def __fspath__(self) -> str:
            return str(photo)

    assert (await open_media(Entry())).filename == "photo of me.png"


@pytest.mark.skipif(os.name != "posix", reason="names are text elsewhere")
async def test_file_name_that_is_not_utf8_is_made_safe(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(path)).write_bytes(picture())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert (await open_media(os.fsdecode(path))).filename == "caf_.png"


async def test_caller_may_choose_the_filename() -> None:
    opened = await open_media(picture(), filename="../my\r\ncat")
    assert opened.filename == "my__cat.png"


# --- file objects -----------------------------------------------------------------------------------------


async def test_file_object_is_sent_from_its_position(photo: Path) -> None:
    with tempfile.SpooledTemporaryFile() as file:
        file.write(b"a header of another format")
        start = file.tell()
        file.write(photo.read_bytes())
        file.seek(start)
        opened = await open_media(file)
        file.seek(3)
        assert await content_of(opened) == photo.read_bytes()
        assert file.tell() == 3


async def test_compressed_file_object_is_sent_decompressed(photo: Path, tmp_path: Path) -> None:
    packed = tmp_path / "photo.png.gz"
    packed.write_bytes(gzip.compress(photo.read_bytes()))
    with gzip.open(packed) as file:
        assert await content_of(await open_media(file)) == photo.read_bytes()


async def test_concurrent_reads_of_one_file_object_are_whole(photo: Path) -> None:
    expected = photo.read_bytes()
    with photo.open("rb") as file:
        opened = [await open_media(file) for _ in range(8)]
        received: list[bytes] = []

        async def read(one: Media) -> None:
            received.append(await content_of(one))

        async with anyio.create_task_group() as group:
            for one in opened:
                group.start_soon(read, one)
    assert received == [expected] * 8


class Pipe(io.RawIOBase):
    """A stream that cannot be rewound and returns short reads."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        return self._content.read(min(1000, size or 0) if size != -1 else 1000)


async def test_pipe_is_read_into_memory_up_to_the_limit(photo: Path) -> None:
    assert await content_of(await open_media(Pipe(photo.read_bytes()))) == photo.read_bytes()
    endless = Pipe(PNG + bytes(MAX_UPLOAD_BYTES + 5000))
    with pytest.raises(ImageTooLargeError, match="more than 20,971,520 bytes"):
        await open_media(endless)
    assert len(endless.read()) == 1000


async def test_read_of_a_silent_pipe_can_be_cancelled() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as silent:
        with anyio.move_on_after(0.05) as scope:
            await open_media(silent)
        os.close(writing)  # lets the thread end
        assert scope.cancelled_caught
        await anyio.to_thread.run_sync(silent.read)


async def test_error_for_text_file_suggests_binary_mode(photo: Path) -> None:
    with photo.open(encoding="latin-1") as file, pytest.raises(ImageError, match=r"open\(path, 'rb'\)"):
        await open_media(file)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="binary mode"):
        await open_media(io.StringIO("x"))  # type: ignore[arg-type]


async def test_closed_or_failing_file_object_is_an_image_error(photo: Path) -> None:
    file = photo.open("rb")
    opened = await open_media(file)
    file.close()
    with pytest.raises(ImageError, match="closed file"):
        await content_of(opened)
    with pytest.raises(ImageError, match="closed file"):
        await open_media(file)

    class Failing(io.BytesIO):
        def read(self, _: int | None = -1, /) -> bytes:
            raise EOFError("the other end went away")

    with pytest.raises(ImageError, match="the other end went away"):
        await open_media(Failing(picture()))


async def test_asynchronous_file_is_refused_without_a_warning() -> None:
    class Asynchronous:
        async def read(self, _: int = -1, /) -> bytes:
            return picture()

    with pytest.raises(ImageError, match=r"asynchronous; give the bytes, await file\.read\(\)"):
        await open_media(Asynchronous())  # type: ignore[arg-type]


# --- Pillow -----------------------------------------------------------------------------------------------


def pillow_image(mode: str, size: tuple[int, int] = (16, 16)) -> Image.Image:
    return Image.new(mode, size)


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "LA", "La", "I", "I;16", "F", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "LAB"],
)
async def test_pillow_image_of_any_mode_is_sent_as_png(mode: str) -> None:
    opened = await open_media(pillow_image(mode))
    assert (opened.content_type, opened.filename) == ("image/png", "image.png")
    with Image.open(io.BytesIO(await content_of(opened))) as sent:
        assert sent.format == "PNG"
        assert sent.size == (16, 16)
        assert sent.has_transparency_data == (mode in {"LA", "La", "PA", "RGBA", "RGBa"})


async def test_pillow_image_from_a_jpeg_stays_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "holiday.jpeg"
    Image.new("CMYK", (16, 16)).save(path, "JPEG")
    with Image.open(path) as image:
        opened = await open_media(image)
    assert (opened.content_type, opened.filename) == ("image/jpeg", "holiday.jpg")
    with Image.open(path) as image:
        opened = await open_media(image.convert("RGB"))
    assert opened.content_type == "image/png"


async def test_pillow_image_keeps_its_colour_profile() -> None:
    image = pillow_image("RGB")
    image.info["icc_profile"] = b"a profile"
    with Image.open(io.BytesIO(await content_of(await open_media(image)))) as sent:
        assert sent.info["icc_profile"] == b"a profile"


async def test_pillow_image_of_a_broken_file_is_an_image_error(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(picture(size=200)[:5000])
    with Image.open(path) as image, pytest.raises(ImageError, match="The Pillow image cannot be read"):
        await open_media(image)


# --- refused images ---------------------------------------------------------------------------------------


@pytest.fixture
def named_pipe(tmp_path: Path) -> Iterator[Path]:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    yield path
    path.unlink()


async def test_named_pipe_is_refused_without_reading(named_pipe: Path) -> None:
    with pytest.raises(ImageError, match="not a regular file"):
        await open_media(named_pipe)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("missing.png", ImageError, r"missing\.png cannot be read: no such file"),
        ("", ImageError, "path of the image is empty"),
        (".", ImageError, "is a directory"),
        ("/dev/null", ImageError, "not a regular file"),
        ("a\0b.png", ImageError, "null"),
        ("x" * 5000, ImageError, "too long"),
        (b"", ImageError, "is empty: it has 0 bytes"),
        ("data:image/png;base64,", ImageError, "is empty"),
        ("data:image/png;base64,!", ImageError, "not base64"),
        ("data:image/png", ImageError, "no comma"),
        (b"%PDF-1.7", UnsupportedImageError, r"is a PDF \(8 bytes\).*JPEG, PNG, WebP and GIF"),
        (b"<!DOCTYPE html><title>404", UnsupportedImageError, "is an HTML page"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", UnsupportedImageError, "is a PostScript drawing"),
        (b"hello", UnsupportedImageError, "is text"),
        (bytes(100), UnsupportedImageError, "not an image of any known kind"),
        (42, UnsupportedImageError, "cannot be given as int"),
        (None, UnsupportedImageError, "NoneType"),
        (object(), UnsupportedImageError, "object"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, (str, bytes)) else None,
)
async def test_error_has_the_reason_for_the_refusal(
    given: Any, error: type[ImageError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        await open_media(given)
    assert type(caught.value) is error
    assert len(str(caught.value)) < 400


async def test_oversized_data_url_is_refused_before_decoding() -> None:
    with pytest.raises(ImageTooLargeError, match="at most 20,971,520"):
        await open_media("data:image/png;base64," + "!" * 80_000_000)


async def test_largest_accepted_file_can_be_sent(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(PNG + b"\0\0\0\0IEND\xaeB`\x82")
    os.truncate(path, MAX_UPLOAD_BYTES)
    assert (await open_media(path)).size == MAX_UPLOAD_BYTES
    os.truncate(path, MAX_UPLOAD_BYTES + 1)
    with pytest.raises(ImageTooLargeError, match=r"large\.png is a PNG image of 20,971,521 bytes\. At most"):
        await open_media(path, convert=False)
    os.truncate(path, 256 * 1024 * 1024 + 1)
    with pytest.raises(ImageTooLargeError, match=r"large\.png"):
        await open_media(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
async def test_unreadable_file_is_an_image_error(photo: Path) -> None:
    photo.chmod(0)
    with pytest.raises(ImageError, match="ermission denied") as caught:
        await open_media(photo)
    assert isinstance(caught.value.__cause__, PermissionError)


async def test_message_has_no_control_characters() -> None:
    with pytest.raises(ImageError) as caught:
        await open_media("a\x1b[31m\r\nb.png")
    assert caught.value.message.isprintable()


# --- changed files ----------------------------------------------------------------------------------------


def appended(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def shortened(path: Path) -> None:
    os.truncate(path, 100)


def rewritten(path: Path) -> None:
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(1, 1))


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


def removed(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [appended, shortened, rewritten, replaced, removed])
async def test_file_that_changes_while_sent_never_arrives_whole(
    photo: Path, change: Callable[[Path], None]
) -> None:
    body = multipart([("file", await open_media(photo))])
    async with aclosing(body.chunks()) as chunks:
        sent = len(await anext(chunks))
        change(photo)
        with pytest.raises(ImageError, match=r"photo of me\.png (has changed|cannot be read)"):
            await anext(chunks)
    assert 0 < sent < body.length


@pytest.mark.parametrize("size", [100, 10_000_000])
async def test_file_object_that_changes_its_size_never_arrives_whole(photo: Path, size: int) -> None:
    file = io.BytesIO(photo.read_bytes())
    opened = await open_media(file)
    file.seek(0)
    file.truncate(min(size, opened.size))
    if size > opened.size:
        file.seek(0, os.SEEK_END)
        file.write(b"more")
    with pytest.raises(ImageError, match="has changed"):
        await content_of(opened)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
async def test_pipe_that_replaces_the_file_does_not_hang(photo: Path) -> None:
    opened = await open_media(photo)
    photo.unlink()
    os.mkfifo(photo)
    with pytest.raises(ImageError, match="has changed"):
        await content_of(opened)


async def test_unfinished_body_leaves_no_file_open(photo: Path) -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    body = multipart([("file", await open_media(photo))])
    for _ in range(5):
        async with aclosing(body.chunks()) as chunks:
            await anext(chunks)
    assert len(list(Path("/dev/fd").iterdir())) == before


async def test_file_objects_are_read_in_threads(photo: Path) -> None:
    threads: set[int] = set()

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            threads.add(threading.get_ident())
            return super().read(size)

    await content_of(await open_media(Watched(photo.read_bytes())))
    assert threads
    assert threading.get_ident() not in threads


# --- URLs and sequences -----------------------------------------------------------------------------------


@pytest.fixture
def upload() -> Upload:
    from datetime import UTC, datetime

    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return Upload("https://files.example/a.png", "a.png", "image/png", 10, moment, moment)


def test_remote_images_have_a_url(upload: Upload) -> None:
    assert forms.remote_url(upload) == upload.url
    for url in ("https://files.example/a b.png?x=1", "HTTP://files.example/"):
        assert forms.remote_url(url) == url


@pytest.mark.parametrize(
    "given", ["photo.jpg", "C://photo.jpg", "data:image/png;base64,aGk=", b"https://x", Path("https://x")]
)
def test_local_images_have_no_url(given: SingleImage) -> None:
    assert forms.remote_url(given) is None


@pytest.mark.parametrize("url", ["ftp://host/a.png", "file:///etc/passwd", "HDFS://x", "blob://1"])
def test_error_names_the_unsupported_scheme(url: str) -> None:
    scheme = url.partition("://")[0]
    with pytest.raises(UnsupportedImageError, match=rf"{scheme}://.*https://, http://, data:, s3://"):
        forms.remote_url(url)


def test_flatten_accepts_one_image_or_a_sequence(upload: Upload) -> None:
    file = io.BytesIO(b"x")
    for one in (
        "a.png",
        b"abc",
        bytearray(b"abc"),
        memoryview(b"abc"),
        Path("a"),
        file,
        upload,
        pillow_image("L"),
    ):
        assert forms.flatten(one) == [one]
    assert forms.flatten(["a", b"b"]) == ["a", b"b"]
    assert forms.flatten((upload,)) == [upload]


@pytest.mark.parametrize("given", [[], (), [["a.png"]], ["a.png", ("b.png",)]])
def test_empty_and_nested_sequences_are_refused(given: ImageInput) -> None:
    with pytest.raises(ImageError):
        forms.flatten(given)
