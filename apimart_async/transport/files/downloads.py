"""The download of a result image, from a file host or out of a ``data:`` URL, verified while it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from apimart_async.errors import APIConnectionError, ApimartError, DownloadError
from apimart_async.transport.concurrency import file_threads
from apimart_async.transport.media import data_urls, sniffing
from apimart_async.transport.media.sniffing import EndFinder

if TYPE_CHECKING:
    from apimart_async.transport.api import Api

_HEAD_BYTES: Final = 32
_CHUNK_BYTES: Final = 512 * 1024


class Chunks(Protocol):
    """The content of an image, such as a verified download."""

    @property
    def extension(self) -> str:
        """File extension with its dot; known once a chunk was read."""
        ...

    async def read(self) -> bytes:
        """Return the next chunk, and ``b""`` at the end."""
        ...


class Download(Protocol):
    """The body of a file."""

    @property
    def length(self) -> int | None:
        """Bytes announced; ``None`` without an announcement."""
        ...

    async def read(self) -> bytes:
        """Return the next chunk as it comes, and ``b""`` at the end."""
        ...

    def discard(self) -> None:
        """Close the connections, because the content is not an image."""
        ...

    def close(self) -> None:
        """Release the connection."""
        ...


async def open_download(api: Api, url: str, attempt: int = 1) -> VerifiedDownload:
    """Open an ``http(s)://`` or ``data:`` URL once, without a retry; the caller closes the download.

    Args:
        api: API of the client.
        url: URL of the file.
        attempt: Number of the attempt, for the log and the hooks.

    Raises:
        DownloadError: The URL is of another kind, the host answered with an error, or the file has more bytes
            than ``Limits.download_bytes``.
        APIConnectionError: The host could not be reached.

    Cancellation closes the connection.
    """
    if url.startswith(data_urls.SCHEME):
        decoded = await _decode(url, api.settings.limits.download_bytes)
        return VerifiedDownload(decoded, is_repeatable=False)
    return VerifiedDownload(await api.download(url, attempt))


async def _decode(url: str, limit: int) -> _Decoded:
    if data_urls.least_size(url) <= limit:
        try:
            content = await file_threads.run(data_urls.decode, url)
        except ValueError as error:
            raise DownloadError(f"The image's data: URL cannot be read: {error}.") from error
        if len(content) <= limit:
            return _Decoded(content)
    raise DownloadError(f"The image's data: URL holds more than {limit} bytes (Limits.download_bytes).")


class _Decoded:
    """The content of a ``data:`` URL, read in chunks like any other."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._offset = 0
        self.length: int | None = len(content)

    async def read(self) -> bytes:
        start, self._offset = self._offset, self._offset + _CHUNK_BYTES
        return self._content[start : self._offset]

    def discard(self) -> None:
        self._content = b""

    def close(self) -> None:
        self._content = b""


class VerifiedDownload:
    """A download that is checked to be an image before its first chunk, and to be whole at its end.

    Args:
        download: The body; closed by ``close``.
        is_repeatable: Whether another download may bring the rest of an image that was cut short.

    Attributes:
        extension: File extension of the image's format, with its dot; known once a chunk was read.
    """

    def __init__(self, download: Download, *, is_repeatable: bool = True) -> None:
        self.extension: str = ""
        self._download = download
        self._is_repeatable = is_repeatable
        self._end: EndFinder | None = None
        self._received = 0

    async def read(self) -> bytes:
        """Return the next chunk as it comes, and ``b""`` at the end of a whole image.

        Raises:
            DownloadError: The content is not an image, or has more bytes than ``Limits.download_bytes``.
            APIConnectionError: The body ended before the image; another download may succeed.

        Cancellation leaves the download to be closed.
        """
        chunk = await self._download.read()
        end = self._end
        if end is None:
            while len(chunk) < _HEAD_BYTES and (more := await self._download.read()):
                chunk += more
            end = self._end = EndFinder(self._identify(chunk))
        self._received += len(chunk)
        end.feed(chunk)
        if not chunk and not (end.is_found and self._download.length in {None, self._received}):
            raise self._incomplete(
                f"The image is cut short: {self._received:,} bytes came, which is not all of it."
            )
        return chunk

    def close(self) -> None:
        """Release the connection; a second call does nothing."""
        self._download.close()

    def _incomplete(self, message: str) -> ApimartError:
        """Make the error for a file that another download may bring whole."""
        return APIConnectionError(message) if self._is_repeatable else DownloadError(message)

    def _identify(self, chunk: bytes) -> sniffing.Kind:
        if not chunk:
            # A file that is still being written, or a gateway's answer in place of it.
            raise self._incomplete("The file host sent an empty file.")
        kind = sniffing.identify(chunk[:_HEAD_BYTES])
        if kind.extension is None:
            self._download.discard()
            raise DownloadError(f"The file host sent a file that is {kind.description}.")
        self.extension = kind.extension
        return kind
