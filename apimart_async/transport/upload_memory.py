"""Uploads that are used again: one for each image, for as long as its URL lives."""

from __future__ import annotations

import copy
from collections import OrderedDict
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

import anyio
import attrs

from apimart_async.errors import APIError

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Collection, Generator

    from apimart_async.models import Upload

_MOST_KEPT: Final = 4096
# The service fetches the image when the task starts, which may be some time after the submit.
_MARGIN: Final = timedelta(hours=1)


class UploadStore(Protocol):
    """A store of uploads that outlives the client: the journal of a batch, or a folder."""

    async def get_upload(self, key: str) -> Upload | None:
        """Return an upload that was kept, expired or not."""
        ...

    async def put_upload(self, key: str, upload: Upload) -> None:
        """Keep an upload in the place of another."""
        ...


@attrs.frozen
class BatchUploads:
    """The rules of a batch for the uploads of its jobs.

    Attributes:
        store: Keeps uploads for later runs.
        limit: Limits concurrent uploads.
    """

    store: UploadStore
    limit: anyio.Semaphore

    @contextmanager
    def used(self) -> Generator[None]:
        """Apply them to the calls of the body."""
        token = BATCH.set(self)
        try:
            yield
        finally:
            BATCH.reset(token)


BATCH: Final[ContextVar[BatchUploads | None]] = ContextVar("BATCH", default=None)


@attrs.frozen(eq=False)
class _Pending:
    owner: object
    done: anyio.Event = attrs.field(factory=anyio.Event)
    errors: list[APIError] = attrs.field(factory=list[APIError])


class UploadMemory:
    """Uploads each image once, and returns that upload to concurrent and later callers.

    The uploads used last are kept, up to 4096.

    Args:
        store: Keeps uploads for other clients.
    """

    def __init__(self, store: UploadStore | None = None) -> None:
        self._store = store
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._pending: dict[str, _Pending] = {}

    @classmethod
    def of(cls, reuse_uploads: bool | str | os.PathLike[str]) -> UploadMemory | None:  # noqa: FBT001 the option
        """Return the memory that the option of a client asks for."""
        from apimart_async.transport.files.upload_folder import UploadFolder

        if isinstance(reuse_uploads, bool):
            return cls() if reuse_uploads else None
        return cls(UploadFolder(reuse_uploads))

    async def get(self, key: str, upload: Callable[[], Awaitable[Upload]], *, owner: object) -> Upload:
        """Return an upload that lives for at least another hour.

        Args:
            key: Server and content of the image.
            upload: Uploads it.
            owner: Equal for callers that share the failure of an upload.

        Raises:
            ImageError: The image has changed since it was checked.
            APIError: The upload failed after all retries, for every caller of the owner that waited for it.
            JournalError: The upload cannot be kept in the journal.

        Cancellation leaves the upload to the next caller that waits for it, or an unused upload.
        """
        while (pending := self._pending.get(key)) is not None:
            await pending.done.wait()
            if pending.errors and pending.owner == owner:
                raise copy.copy(pending.errors[0])
        kept = self._kept.get(key)
        if kept is not None and _lives(kept):
            self._kept.move_to_end(key)
            return kept
        pending = self._pending[key] = _Pending(owner)
        try:
            return await self._find_or_upload(key, upload, is_dead=kept is not None)
        except APIError as error:
            pending.errors.append(error)
            raise
        finally:
            del self._pending[key]
            pending.done.set()

    async def _find_or_upload(
        self, key: str, upload: Callable[[], Awaitable[Upload]], *, is_dead: bool
    ) -> Upload:
        stores = self._stores()
        for store in stores if not is_dead else ():
            kept = await store.get_upload(key)
            if kept is not None and _lives(kept):
                self._keep(key, kept)
                return kept
        made = await upload()
        self._keep(key, made)
        for store in stores:
            await store.put_upload(key, made)
        return made

    def _keep(self, key: str, upload: Upload) -> None:
        self._kept[key] = upload
        self._kept.move_to_end(key)
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)

    async def forget(self, urls: Collection[str]) -> None:
        """Use the uploads of these URLs no more: their images are uploaded again."""
        for key, kept in list(self._kept.items()):
            if kept.url in urls:
                dead = self._kept[key] = attrs.evolve(kept, expires_at=kept.created_at)
                for store in self._stores():
                    await store.put_upload(key, dead)

    def _stores(self) -> list[UploadStore]:
        batch = BATCH.get()
        stores = [None if batch is None else batch.store, self._store]
        return [store for store in stores if store is not None]


def _lives(upload: Upload) -> bool:
    return upload.expires_at - datetime.now(UTC) > _MARGIN
