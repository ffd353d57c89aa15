"""Uploads that are shared: one for each picture, across jobs and runs, for as long as it lives."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, cast

import anyio
import attrs

from apimart_async.models import Upload
from apimart_async.transport.rate_limit import Gate

if TYPE_CHECKING:
    from apimart_async.batch.journal import Journal
    from apimart_async.client import AsyncApimart
    from apimart_async.transport.media.inputs import Media, SingleImage

# The service fetches the picture when the task begins, which may be a while after the submit.
_MARGIN: Final = timedelta(hours=1)


@attrs.define(eq=False)
class _Flight:
    landed: anyio.Event = attrs.field(factory=anyio.Event)
    upload: Upload | None = None
    error: Exception | None = None


class SharedUploads:
    """Uploads each picture once: to whoever asks meanwhile, and later, the same one is given.

    Args:
        client: Uploads.
        journal: Keeps uploads for later runs.
        most: How many at once.
    """

    def __init__(self, client: AsyncApimart, journal: Journal, most: int) -> None:
        self._client = client
        self._journal = journal
        self._gate = Gate(most)
        self._flights: dict[str, _Flight] = {}

    async def get(self, picture: Media, digest: str) -> Upload:
        """Return an upload of a picture that will still live in an hour.

        Args:
            picture: Checked.
            digest: Of its content.

        Raises:
            ImageError: The picture has changed since it was checked.
            APIError: The upload failed after all retries, for all who waited for it.
            JournalError: The upload cannot be kept.
        """
        # Another server has another file host.
        key = f"{self._client.base_url} {digest}"
        while True:
            flight = self._flights.get(key)
            if flight is None:
                return await self._fly(key, picture)
            await flight.landed.wait()
            if flight.upload is not None:
                return flight.upload
            if flight.error is not None:
                raise copy.copy(flight.error)

    async def _fly(self, key: str, picture: Media) -> Upload:
        flight = self._flights[key] = _Flight()
        try:
            flight.upload = await self._find(key) or await self._upload(key, picture)
        except Exception as error:
            flight.error = error
            raise
        finally:
            del self._flights[key]
            flight.landed.set()
        return flight.upload

    async def _find(self, key: str) -> Upload | None:
        kept = await self._journal.get_upload(key)
        return kept if kept and kept.expires_at - datetime.now(UTC) > _MARGIN else None

    async def _upload(self, key: str, picture: Media) -> Upload:
        await self._gate.enter()
        try:
            upload = await self._client.uploads.create(cast("SingleImage", picture))
        finally:
            self._gate.leave()
        await self._journal.put_upload(key, upload)
        return upload
