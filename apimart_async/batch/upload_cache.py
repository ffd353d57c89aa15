"""Uploads shared by jobs and runs: one for each image, for as long as it lives."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import anyio
import attrs

from apimart_async.batch.journal.protocol import Journal
from apimart_async.models import Upload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# The service fetches the image when the task starts, which may be some time after the submit.
_MARGIN: Final = timedelta(hours=1)


@attrs.define(eq=False)
class _Pending:
    done: anyio.Event = attrs.field(factory=anyio.Event)
    upload: Upload | None = None
    error: Exception | None = None


@attrs.frozen
class UploadCache:
    """Uploads each image once, and returns that upload to concurrent and later callers.

    Args:
        journal: Keeps uploads for later runs.
        semaphore: Limits concurrent uploads.
    """

    _journal: Journal
    _semaphore: anyio.Semaphore
    _pending: dict[str, _Pending] = attrs.field(factory=dict[str, _Pending], init=False)

    async def get(self, key: str, upload: Callable[[], Awaitable[Upload]]) -> Upload:
        """Return an upload that lives for at least another hour.

        Args:
            key: Server and content of the image.
            upload: Uploads it.

        Raises:
            ImageError: The image has changed since it was checked.
            APIError: The upload failed after all retries, for every caller that waited for it.
            JournalError: The upload cannot be kept.
        """
        while (pending := self._pending.get(key)) is not None:
            await pending.done.wait()
            if pending.upload is not None:
                return pending.upload
            if pending.error is not None:
                raise copy.copy(pending.error)
        pending = self._pending[key] = _Pending()
        try:
            kept = await self._journal.get_upload(key)
            if kept and kept.expires_at - datetime.now(UTC) > _MARGIN:
                pending.upload = kept
            else:
                async with self._semaphore:
                    pending.upload = await upload()
                await self._journal.put_upload(key, pending.upload)
        except Exception as error:
            pending.error = error
            raise
        finally:
            del self._pending[key]
            pending.done.set()
        return pending.upload
