"""The body of a result image, from a file host or out of a ``data:`` URL, and whether it is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from anyio import to_thread

from apimart_async.errors import APIConnectionError, DownloadError
from apimart_async.transport.media import data_urls, sniffing

if TYPE_CHECKING:
    from apimart_async.transport.api import Service
    from apimart_async.transport.session import Take

_ENOUGH_TO_TELL: Final = 32

Piece = TypeVar("Piece", bound=bytes | memoryview)


class Body(Protocol):
    """What is downloaded, piece by piece."""

    @property
    def length(self) -> int | None:
        """Bytes announced; ``None`` when nobody said."""
        ...

    async def read(self) -> bytes:
        """Return the next piece as it comes, and nothing at the end."""
        ...

    async def pour(self, take: Take) -> bool:
        """Hand over what comes until that is all, or there is no more room; return whether it was all."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


async def _open_body(service: Service, url: str, take: Take | None) -> Body:
    """Open an ``http(s)://`` or ``data:`` URL; the caller closes it.

    Raises:
        DownloadError: It is another URL, the host answered with an error, or it holds more than
            ``Limits.download_bytes``.
        APIConnectionError: The host could not be reached.

    Cancelling it closes the connection.
    """
    if data_urls.is_data_url(url):
        return await _decode(url, service.settings.limits.download_bytes)
    return await service.download(url, take)


class _Decoded:
    """A body that came inside its own address."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.length: int | None = len(content)

    async def read(self) -> bytes:
        content, self._content = self._content, b""
        return content

    async def pour(self, take: Take) -> bool:
        content = await self.read()
        return not content or take(content)

    def close(self) -> None:
        self._content = b""


async def _decode(url: str, limit: int) -> _Decoded:
    if data_urls.least_size(url) <= limit:
        try:
            content = await to_thread.run_sync(data_urls.decode, url)
        except ValueError as error:
            raise DownloadError(f"The image's data: URL cannot be read: {error}.") from error
        if len(content) <= limit:
            return _Decoded(content)
    raise DownloadError(f"The image's data: URL holds more than {limit} bytes (Limits.download_bytes).")


class Checked:
    """An image on its way: nothing before its beginning is seen to be an image's, no end unless it is whole.

    It is opened when it is first read or poured; whoever made it closes it.

    Args:
        service: Downloads it.
        url: ``http(s)://`` or ``data:``.
    """

    def __init__(self, service: Service, url: str) -> None:
        self._service = service
        self._url = url
        self._body: Body | None = None
        self._kind: sniffing.Kind | None = None
        self._head = self._tail = b""
        self._received = 0

    @property
    def is_open(self) -> bool:
        """Tell whether it has been opened, so that what fails now is its body."""
        return self._body is not None

    async def open(self, take: Take | None = None) -> Body:
        """Open it, unless it is open.

        Args:
            take: Takes what comes from then on.

        Raises:
            DownloadError: It is another URL, the host answered with an error, or it holds more than
                ``Limits.download_bytes``.
            APIConnectionError: The host could not be reached.

        Cancelling it closes the connection.
        """
        if self._body is None:
            self._body = await _open_body(self._service, self._url, take)
        return self._body

    async def read(self) -> bytes:
        """Return the next piece, the first long enough to tell the kind of image, and nothing at the end.

        Raises:
            DownloadError: As ``open``, or it is not an image.
            APIConnectionError: As ``open``, or it broke off; trying again may help.
        """
        body = await self.open()
        while piece := await body.read():
            if seen := self._look(piece):
                return seen
        return self._end(body.length)

    async def pour(self, take: Take) -> bool:
        """Hand over what ``read`` would return until that is all, or there is no more room.

        Returns:
            Whether it was all.

        Raises:
            DownloadError: As ``open``, or it is not an image.
            APIConnectionError: As ``open``, or it broke off; trying again may help.
        """

        def look_and_take(piece: bytes | memoryview) -> bool:
            seen = self._look(piece)
            return not seen or take(seen)

        body = await self.open(look_and_take)
        if not await body.pour(look_and_take):
            return False
        rest = self._end(body.length)
        return not rest or take(rest)

    def close(self) -> None:
        """Let go of it; a second call does nothing."""
        if self._body is not None:
            self._body.close()

    def _look(self, piece: Piece) -> Piece | bytes:
        """Note a piece; return what may be seen of it, nothing as long as there is too little to tell."""
        seen: Piece | bytes = piece
        if self._kind is None:
            if self._head or len(piece) < _ENOUGH_TO_TELL:
                seen = self._head = self._head + piece
                if len(seen) < _ENOUGH_TO_TELL:
                    return b""
            self._head = bytes(seen[:_ENOUGH_TO_TELL])
            self._kind = _image_kind(self._head)
        self._received += len(seen)
        # What comes while it is being opened has its length announced.
        if self._body is not None and self._body.length is None:
            self._tail = (self._tail + seen)[-sniffing.TAIL_BYTES :]
        return seen

    def _end(self, announced: int | None) -> bytes:
        """See that it is whole; return what was too little to tell by until now."""
        held = b""
        if self._kind is None:
            held, self._kind = self._head, _image_kind(self._head)
            self._received = len(held)
            self._tail = held
        # Without a length announced, a host may end a body by hanging up; so does a connection that breaks.
        broken = (
            sniffing.is_cut_short(self._kind, self._head, self._tail, self._received)
            if announced is None
            else self._received != announced
        )
        if broken:
            raise APIConnectionError(
                f"The connection ended after {self._received} bytes, before the image did."
            )
        return held


def _image_kind(head: bytes) -> sniffing.Kind:
    if not head:
        raise DownloadError("The file host sent an empty file.")
    kind = sniffing.identify(head)
    if kind.extension is None:
        raise DownloadError(f"What the file host sent is {kind.description}.")
    return kind
