"""The forms in which callers give images: paths, bytes, files, URLs, and sequences of these."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard, cast
from urllib.request import url2pathname

from apimart_async.errors import ImageError, UnsupportedImageError
from apimart_async.models import Upload
from apimart_async.transport.media import data_urls, sniffing

if TYPE_CHECKING:
    import os

    from apimart_async.transport.media.pillow_images import PillowImage
    from apimart_async.transport.media.sources import BinaryFile

# A scheme of one letter is a Windows drive.
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.\-]+)://", re.IGNORECASE)
_FILE_SCHEME: Final = "file://"
_MIME_TYPE: Final = re.compile(r"(application|binary|image)/[A-Za-z0-9.+-]+ *(;.*)?")
_SHOWN: Final = 120

UrlObject: TypeAlias = Mapping[str, Any]
"""A URL in an object, ``{"url": …}`` or ``{"image_url": …}``, as in requests of services."""

UnnamedImage: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryFile | PillowImage | Upload | UrlObject"
)
"""A path, an ``https://`` or ``data:`` URL, the bytes of a file, a binary file, a Pillow image, an upload,
or a URL in an object."""

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
    if not isinstance(image, Mapping):
        return image
    found: object = image.get("url") or image.get("image_url")
    if isinstance(found, Mapping):
        found = cast("Mapping[str, object]", found).get("url")
    # A path is not taken: such an object may come from somebody else.
    if not isinstance(found, str) or not (data_urls.is_data_url(found) or _SCHEME.match(found)):
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
    if isinstance(image, Upload):
        return image.url
    scheme = _SCHEME.match(image) if isinstance(image, str) else None
    if not isinstance(image, str) or scheme is None:
        return None
    if scheme.group(1).lower() in {"http", "https"}:
        return image
    advice = "Give a path, or download it first."
    path = image[len(_FILE_SCHEME) :].removeprefix("localhost")
    if scheme.group().lower() == _FILE_SCHEME and path.startswith("/"):
        advice = f"Give the path itself, {shown(url2pathname(path))!r}."
    raise UnsupportedImageError(
        f"{shown(image)} is a {scheme.group()} URL: https://, http:// and data: URLs can be used. {advice}"
    )


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
