"""Edits: change an image as a prompt says."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from apimart_async.arguments import check_types
from apimart_async.polling.watch import naming
from apimart_async.resources import submission
from apimart_async.resources.tasks import check_wait_timeout
from apimart_async.resources.uploads import check_images, image_urls, renewing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from apimart_async.models import Task
    from apimart_async.resources.schemas import Schemas
    from apimart_async.resources.tasks import AsyncTasks
    from apimart_async.resources.uploads import UploadMemory
    from apimart_async.transport.api import Api
    from apimart_async.transport.media.forms import ImageInput

DEFAULT_MODEL: Final = "grok-imagine-1.0-edit-apimart"


class AsyncEdits:
    """Paid edits of images. ``task.cost`` has the cost once the task has completed."""

    def __init__(self, api: Api, tasks: AsyncTasks, schemas: Schemas, memory: UploadMemory | None) -> None:
        self._api = api
        self._tasks = tasks
        self._schemas = schemas
        self._memory = memory

    async def create(
        self,
        image: ImageInput,
        prompt: str,
        *,
        model: str = DEFAULT_MODEL,
        n: int = 1,
        inline: bool = False,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> Task:
        """Upload the image if necessary and submit an edit of it. Billable.

        The schema of the model names the endpoint. Without a schema, a model with ``-edit-`` in its name
        edits on ``/v1/images/edits``, every other on ``/v1/images/generations``. All arguments are checked
        before anything is sent. The paid request is sent again only if it certainly was not executed, or, as
        ``Retry.indeterminate`` says, under the same key.

        Args:
            image: A path, bytes, binary file, ``(name, content, MIME type)``, PIL image, ``https://`` or
                ``data:`` URL, ``{"url": …}``, ``{"image_url": …}``, an ``Upload``, or a sequence of these;
                models with ``-edit-`` in their name edit the first. JPEG, PNG, WebP or GIF of at most
                20,971,520 bytes; another image is converted if ``Media.convert`` of the client allows.
            prompt: The change to make, in any language; not empty.
            model: Any model of the service that edits; default ``"grok-imagine-1.0-edit-apimart"``.
            n: Number of variants, 1 to 10, default 1; other maxima for models without ``-edit-`` in their
                name.
            inline: Whether to send local images inside the request, as ``data:`` URLs, instead of uploading
                them; default False.
            idempotency_key: 1 to 191 visible ASCII characters, remembered for 24 h by the service; a new key
                by default.
            timeout: Seconds for an attempt of each request; the client's timeout by default.
            extra_body: Additional fields of the request.
            extra_headers: Additional headers of the paid request.

        Returns:
            The submitted task, with its id and its idempotency key. It is completed already, and its id may
            be ``None``, if the service answers with the result itself.

        Raises:
            InvalidArgumentError: An argument is invalid; nothing was sent.
            ImageError: An image cannot be sent; nothing was paid.
            APIError: The upload failed, or the edit was not executed.
            SubmissionIndeterminateError: The edit may or may not have been executed; it carries the key.

        Cancellation during the paid request may leave a paid task of unknown id; ``interrupted(error)``
        returns its key then, and the log names it.
        """
        submission.check_request(
            prompt,
            model,
            n,
            submission.max_n(model),
            idempotency_key=idempotency_key,
            extra_body=extra_body,
            extra_headers=extra_headers,
            timeout=timeout,
            inline=inline,
        )
        images = await check_images(self._api, self._memory, image, inline=inline)
        path = submission.submit_path(model, await self._schemas.path(model))
        payload: dict[str, Any] = {"model": model, "prompt": prompt, "image_urls": images}
        if n != 1 or path == submission.EDITS:
            # Not every model knows the field.
            payload["n"] = n
        payload |= extra_body or {}
        schema = await self._schemas.check(path, payload)
        urls = await image_urls(self._api, self._memory, images, inline=inline, timeout=timeout)
        payload |= {"image_urls": urls, **(extra_body or {})}
        async with renewing(self._memory, urls), submission.operation(self._api, payload):
            return await submission.submit(
                self._api,
                path,
                payload,
                idempotency_key=idempotency_key,
                timeout=timeout,
                extra_headers=extra_headers,
                schemas=self._schemas,
                schema=schema,
            )

    async def collect(self, idempotency_key: str, *, timeout: float | None = None) -> Task:
        """Ask again for the answer of an edit that was lost, under its key.

        The request is sent only if the schema of its model promises that a key is executed once, and while
        the service remembers the key; nothing is billed twice then. The client and its copies with the same
        API key know it: the last 64 requests whose answer was lost, without those that hold images.

        Args:
            idempotency_key: Key of the ``SubmissionIndeterminateError``, or of ``interrupted`` after a
                cancellation.
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            The task of the first request.

        Raises:
            InvalidArgumentError: This client knows no such request; nothing was sent.
            SubmissionIndeterminateError: There is no such promise, and nothing was sent, or the answer was
                lost again.
            APIError: The request failed.

        Cancellation leaves the request known to the client.
        """
        return await submission.collect(self._api, self._schemas, idempotency_key, timeout)

    async def run(
        self,
        image: ImageInput,
        prompt: str,
        *,
        model: str = DEFAULT_MODEL,
        n: int = 1,
        inline: bool = False,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        on_update: Callable[[Task], object] | None = None,
    ) -> Task:
        """Upload the image if necessary, submit an edit of it and wait for its images. Billable.

        Args:
            image: A path, bytes, binary file, ``(name, content, MIME type)``, PIL image, ``https://`` or
                ``data:`` URL, ``{"url": …}``, ``{"image_url": …}``, an ``Upload``, or a sequence of these;
                models with ``-edit-`` in their name edit the first. JPEG, PNG, WebP or GIF of at most
                20,971,520 bytes; another image is converted if ``Media.convert`` of the client allows.
            prompt: The change to make, in any language; not empty.
            model: Any model of the service that edits; default ``"grok-imagine-1.0-edit-apimart"``.
            n: Number of variants, 1 to 10, default 1; other maxima for models without ``-edit-`` in their
                name.
            inline: Whether to send local images inside the request, as ``data:`` URLs, instead of uploading
                them; default False.
            idempotency_key: 1 to 191 visible ASCII characters, remembered for 24 h by the service; a new key
                by default.
            timeout: Seconds to wait for the submitted task; ``Poll.timeout`` of the client (600) by default.
            extra_body: Additional fields of the request.
            extra_headers: Additional headers of the paid request.
            on_update: Called with the task after its submission and after every poll.

        Returns:
            The completed task with its images. Their URLs expire: save them with ``images.save``.

        Raises:
            InvalidArgumentError: An argument is invalid; nothing was sent.
            ImageError: An image cannot be sent; nothing was paid.
            APIError: The upload failed, the edit was not executed, or a poll failed with a permanent error,
                which then carries the task id.
            SubmissionIndeterminateError: The edit may or may not have been executed; it carries the key.
            TaskError: The task did not complete; ``TaskTimeoutError`` if it has not ended in time.

        Cancellation leaves the submitted task running; ``interrupted(error)`` returns its id, or its key
        while the id is unknown, and the log names it.
        """
        # Before the paid submit.
        check_wait_timeout(timeout)
        check_types(on_update=on_update)
        async with submission.operation(self._api, {"model": model, "image_urls": ()}):
            task = await self.create(
                image,
                prompt,
                model=model,
                n=n,
                inline=inline,
                idempotency_key=idempotency_key,
                extra_body=extra_body,
                extra_headers=extra_headers,
            )
            with naming(task, logging.WARNING):
                if on_update is not None:
                    on_update(task)
                return await self._tasks.wait(task, timeout=timeout, on_update=on_update)
