"""The body of a result image, from a file host or out of a ``data:`` URL, and whether it is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from anyio import to_thread

from apimart_async.errors import APIConnectionError, DownloadError
from apimart_async.transport import dataurl, sniff

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from apimart_async.transport.service import Service

_ENOUGH_TO_TELL: Final = 32


class Body(Protocol):
    """What is downloaded, piece by piece."""

    @property
    def length(self) -> int | None:
        """Bytes announced; ``None`` when nobody said."""
        ...

    async def read(self) -> bytes:
        """Return the next piece as it comes, and nothing at the end."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


async def open_body(service: Service, url: str) -> Body:
    """Open an ``http(s)://`` or ``data:`` URL; the caller closes it.

    Raises:
        DownloadError: It is another URL, the host answered with an error, or it holds more than
            ``Limits.download_bytes``.
        APIConnectionError: The host could not be reached.

    Cancelling it closes the connection.
    """
    if dataurl.is_data_url(url):
        return await _decode(url, service.settings.limits.download_bytes)
    return await service.download(url)


class _Decoded:
    """A body that came inside its own address."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.length: int | None = len(content)

    async def read(self) -> bytes:
        content, self._content = self._content, b""
        return content

    def close(self) -> None:
        self._content = b""


async def _decode(url: str, limit: int) -> _Decoded:
    if dataurl.least_size(url) <= limit:
        try:
            content = await to_thread.run_sync(dataurl.decode, url)
        except ValueError as error:
            raise DownloadError(f"The image's data: URL cannot be read: {error}.") from error
        if len(content) <= limit:
            return _Decoded(content)
    raise DownloadError(f"The image's data: URL holds more than {limit} bytes (Limits.download_bytes).")


async def checked(body: Body) -> AsyncGenerator[bytes, None]:
    """Pass an image on: nothing before its beginning is seen to be an image's, and no end unless it is whole.

    Raises:
        DownloadError: It is not an image.
        APIConnectionError: It broke off; trying again may help.
    """
    kind: sniff.Kind | None = None
    head = tail = b""
    received = 0
    while piece := await body.read():
        received += len(piece)
        ahead = piece
        if kind is None:
            head += piece
            if len(head) < _ENOUGH_TO_TELL:
                continue
            kind = _image_kind(head)
            ahead, head = head, head[:_ENOUGH_TO_TELL]
        if body.length is None:
            tail = (tail + ahead)[-sniff.TAIL_BYTES :]
        yield ahead
    if kind is None:
        kind = _image_kind(head)
        tail = head
        yield head
    # Without a length announced, a host may end a body by hanging up, and so does a connection that breaks.
    broken = (
        sniff.is_cut_short(kind, head, tail, received) if body.length is None else received != body.length
    )
    if broken:
        raise APIConnectionError(f"The connection ended after {received} bytes, before the image did.")


def _image_kind(head: bytes) -> sniff.Kind:
    if not head:
        raise DownloadError("The file host sent an empty file.")
    kind = sniff.identify(head)
    if kind.extension is None:
        raise DownloadError(f"What the file host sent is {kind.description}.")
    return kind
