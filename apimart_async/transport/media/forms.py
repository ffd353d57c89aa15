"""The forms in which callers give images, such as paths, bytes, files and URLs, and the content of each."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard, cast
from urllib.request import url2pathname

import attrs

from apimart_async.errors import ImageError, ImageTooLargeError, UnsupportedImageError
from apimart_async.models import Upload
from apimart_async.transport.media import data_urls, sniffing
from apimart_async.transport.media.pillow_images import encode, is_pillow_image
from apimart_async.transport.media.sources import (
    InMemory,
    InObject,
    InSeekableFile,
    LocalFile,
    Source,
    read_rest,
)
from apimart_async.transport.object_storage import ObjectPath

if TYPE_CHECKING:
    from apimart_async.transport.media.pillow_images import PillowImage
    from apimart_async.transport.media.sources import BinaryFile

# A scheme of one letter is a Windows drive.
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.\-]+)://", re.IGNORECASE)
OBJECT_SCHEMES: Final = frozenset({"s3", "gs", "az", "memory"})
_FILE_SCHEME: Final = "file://"
_MIME_TYPE: Final = re.compile(r"(application|binary|image)/[A-Za-z0-9.+-]+ *(;.*)?")
_SHOWN: Final = 120
_URL_SAFE: Final = str.maketrans("+/", "-_")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{64}[A-Za-z0-9+/_=\s-]*")

UrlObject: TypeAlias = Mapping[str, Any]
"""A URL in an object, ``{"url": …}`` or ``{"image_url": …}``, as in requests of services."""

UnnamedImage: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryFile | PillowImage | Upload | UrlObject"
)
"""A path, a URL (``https://``, ``data:``, ``s3://``, ``gs://``, ``az://``), the bytes of a file, a binary
file, a Pillow image, an upload, or a URL in an object."""

NamedFile: TypeAlias = "tuple[str | None, bytes | bytearray | memoryview | BinaryFile, str | None]"
"""Name, content and MIME type, as web frameworks pass files; the content decides the type."""

SingleImage: TypeAlias = "UnnamedImage | NamedFile"
"""An image in any form."""

ImageInput: TypeAlias = "SingleImage | Sequence[SingleImage]"
"""One image or several."""


def flatten(image: ImageInput) -> list[SingleImage]:
    """Return one image, or a sequence of images, as a list.

    Raises:
        ImageError: The sequence is empty, holds another sequence, or may be meant as a file with its name.
    """
    is_single = isinstance(image, (str, bytes, bytearray, memoryview))
    if is_single or not isinstance(image, Sequence) or is_named_file(image):
        return [unwrapped(cast("SingleImage", image))]
    images = cast("list[object]", list(image))
    if not images:
        raise ImageError("The list of images is empty: at least one is needed.")
    is_pair = isinstance(image, tuple) and len(images) == len(("name", "content"))
    if is_pair and isinstance(images[0], str) and is_content(images[1]):
        raise ImageError(
            "A tuple of a text and bytes may be a file with its name or two images: "
            "give (name, content, MIME type) for the file, or a list for the images."
        )
    if any(not is_named_file(each) and isinstance(each, (list, tuple)) for each in images):
        raise ImageError(
            "The list of images holds another list: give one flat list, with named files as "
            "(name, content, MIME type)."
        )
    return [unwrapped(each) for each in cast("list[SingleImage]", images)]


def unwrapped(image: SingleImage) -> SingleImage:
    """Return the URL in an object such as ``{"url": …}``, and any other image as it is.

    Raises:
        ImageError: The object holds no ``https://``, ``http://`` or ``data:`` URL.
    """
    # Most are texts, and the check for a mapping is slow.
    if isinstance(image, str) or not isinstance(image, Mapping):
        return image
    found: object = image.get("url") or image.get("image_url")
    if isinstance(found, Mapping):
        found = cast("Mapping[str, object]", found).get("url")
    # Neither a path nor an object of a store is taken: such a mapping may come from somebody else.
    is_url = isinstance(found, str) and (data_urls.is_data_url(found) or _SCHEME.match(found) is not None)
    if not isinstance(found, str) or not is_url or is_in_store(found):
        raise ImageError(
            'An image given as an object must hold an https:// or data: URL, {"url": …} or {"image_url": …}.'
        )
    return found


def is_named_file(image: object) -> TypeGuard[NamedFile]:
    """Tell whether a value is a file as web frameworks pass it, and not a tuple of three images."""
    if not isinstance(image, tuple):
        return False
    match cast("tuple[object, ...]", image):
        case (str() | None, content, None | ""):
            return is_content(content)
        case (str() | None, content, str(mime)):
            is_path = mime.lower().endswith(sniffing.EXTENSIONS)
            return is_content(content) and not is_path and _MIME_TYPE.fullmatch(mime) is not None
        case _:
            return False


def is_content(value: object) -> TypeGuard[bytes | bytearray | memoryview | BinaryFile]:
    """Tell whether a value is bytes or a file object."""
    return isinstance(value, (bytes, bytearray, memoryview)) or is_binary_file(value)


def remote_url(image: SingleImage) -> str | None:
    """Return the URL of an image on the web, or ``None`` for an image that has to be sent.

    Raises:
        UnsupportedImageError: The URL has another scheme than ``https:``, ``http:`` and ``data:``.
    """
    image = unwrapped(image)
    if not isinstance(image, str):
        return image.url if isinstance(image, Upload) else None
    scheme = _SCHEME.match(image)
    name = "" if scheme is None else scheme.group(1).lower()
    if name in {"http", "https"}:
        return image
    if scheme is None or name in OBJECT_SCHEMES:
        return None
    advice = "Give a path, or download it first."
    path = image[len(_FILE_SCHEME) :].removeprefix("localhost")
    if scheme.group().lower() == _FILE_SCHEME and path.startswith("/"):
        advice = f"Give the path itself, {shown(url2pathname(path))!r}."
    raise UnsupportedImageError(
        f"{shown(image)} is a {scheme.group()} URL: https://, http://, data:, s3://, "
        f"gs:// and az:// URLs can be used. {advice}"
    )


def is_in_store(image: object) -> bool:
    """Tell whether an image is an object in a store, given as its URL or its path."""
    if isinstance(image, ObjectPath):
        return True
    scheme = _SCHEME.match(image) if isinstance(image, str) else None
    return scheme is not None and scheme.group(1).lower() in OBJECT_SCHEMES


def shown(text: str) -> str:
    """Return a name for a message: printable, and cut in the middle when it is long."""
    printable = text
    if not text.isprintable():
        printable = "".join(character if character.isprintable() else "�" for character in text)
    half = _SHOWN // 2
    return printable if len(printable) <= _SHOWN else f"{printable[:half]}…{printable[-half:]}"


def is_binary_file(image: object) -> TypeGuard[BinaryFile]:
    """Tell whether an object has a ``read`` method, as binary and text files have."""
    return callable(getattr(image, "read", None))


def is_seekable(file: object) -> bool:
    """Tell whether a file object can be rewound."""
    seekable = getattr(file, "seekable", None)
    try:
        return bool(seekable()) if callable(seekable) else False
    except Exception:  # noqa: BLE001 a closed file, for example: reading it gives the reason
        return False


# --- the content of an image --------------------------------------------------------------------------------


@attrs.frozen
class Located:
    """An image whose content was found, but not checked.

    Attributes:
        name: For messages.
        filename: The image's own name; ``"image"`` when it has none.
        source: The content.
    """

    name: str
    filename: str
    source: Source


def locate(image: SingleImage, limit: int) -> Located:
    """Find the content of an image; blocks.

    Args:
        image: Anything but an upload or an ``http(s)://`` URL.
        limit: Most bytes of a pipe or a ``data:`` URL, which have to be read to be measured.

    Raises:
        UnsupportedImageError: The value is none of the supported forms.
        ImageTooLargeError: The image is a pipe or a ``data:`` URL and holds more than the limit.
        ImageError: The image cannot be read.
    """
    image = unwrapped(image)
    if is_named_file(image):
        name, content, _ = image
        located = locate(content, limit)
        return attrs.evolve(located, name=shown(name), filename=name) if name else located
    if isinstance(image, str) and data_urls.is_data_url(image):
        return Located("The data: URL", "image", _decode(image, limit))
    if isinstance(image, (str, os.PathLike)):
        return _locate_object(str(image)) if is_in_store(image) else _locate_path(os.fspath(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return Located("The image given as bytes", "image", InMemory(bytes(image)))
    if is_pillow_image(image):
        # Only the stem: the extension follows from the format that the image is written in.
        return Located("The Pillow image", Path(_origin(image, "filename")).stem or "image", encode(image))
    if is_binary_file(image):
        return _locate_file(image, limit)
    raise UnsupportedImageError(
        f"An image cannot be given as {type(image).__name__}: give a path, a URL, the bytes of a file, "
        "a binary file, (name, content, MIME type), a Pillow image or an Upload."
    )


def _origin(image: object, attribute: str) -> str:
    """Return the path that a file object or a Pillow image came from; some have a number there instead."""
    path: object = getattr(image, attribute, None)
    return path if isinstance(path, str) else ""


def _decode(url: str, limit: int) -> InMemory:
    if data_urls.least_size(url) > limit:
        raise ImageTooLargeError(
            f"The data: URL holds more than {data_urls.least_size(url):,} bytes; "
            f"at most {limit:,} can be sent."
        )
    try:
        return InMemory(data_urls.decode(url))
    except ValueError as error:
        raise ImageError(
            f"The data: URL {shown(url[:40])}… cannot be read: {error}. "
            "It should look like data:image/png;base64,iVBORw0KGgo…"
        ) from error


def _locate_path(path: str | bytes) -> Located:
    text = os.fsdecode(path)
    if not text:
        raise ImageError("The path of the image is empty.")
    name = shown(text)
    try:
        return Located(name, os.path.basename(text), LocalFile.examine(name, text))
    except ImageError:
        kind = _kind_in_base64(text)
        if kind is None:
            raise
        raise ImageError(
            f"{text[:20]}… is {kind.description} as base64 text, not a path: give base64.b64decode(text), "
            f"or a data: URL, data:{kind.content_type};base64,{text[:20]}…"
        ) from None


def _locate_object(url: str) -> Located:
    name = shown(url)
    return Located(name, ObjectPath(url).name, InObject.examine(name, url))


def _kind_in_base64(text: str) -> sniffing.Kind | None:
    """Return the kind of the image that a text holds in base64, if it does."""
    if _BASE64.fullmatch(text) is None:
        return None
    kind = sniffing.identify(base64.urlsafe_b64decode(text[:64].translate(_URL_SAFE)))
    return None if kind.extension is None else kind


def _locate_file(file: BinaryFile, limit: int) -> Located:
    path = _origin(file, "name")
    name = f"The file object {shown(path)}" if path else "The file object"
    if isinstance(cast("object", file), io.TextIOBase):
        raise ImageError(f"{name} is open in text mode; open it in binary mode, open(path, 'rb').")
    source = InSeekableFile(name, file) if is_seekable(file) else read_rest(name, file, limit)
    return Located(name, Path(path).name or "image", source)
