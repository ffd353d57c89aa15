"""Edits: change a picture as a prompt says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from apimart_async.resources import submission
from apimart_async.resources.references import addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from apimart_async.models import Task
    from apimart_async.resources.tasks import AsyncTasks
    from apimart_async.transport.api import Service
    from apimart_async.transport.media.inputs import ImageInput

DEFAULT_MODEL: Final = "grok-imagine-1.0-edit-apimart"
_PATH: Final = "/v1/images/edits"


class AsyncEdits:
    """Paid edits of pictures. What a submit costs is in ``task.cost`` once the task has completed."""

    def __init__(self, service: Service, tasks: AsyncTasks) -> None:
        self._service = service
        self._tasks = tasks

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
        """Upload the picture where that is needed, and submit an edit of it. Billable.

        Everything is checked before anything is sent, and the paid request is sent again only when it is
        certain that it was not executed.

        Args:
            image: A path, bytes, binary file, PIL image, ``https://`` or ``data:`` URL, an ``Upload``, or a
                sequence of these; the service edits the first. JPEG, PNG, WebP or GIF of at most
                20,971,520 bytes.
            prompt: What to change, in any language; not empty.
            model: Any model of the service that edits.
            n: How many variants, 1 to 10.
            inline: Send local pictures inside the request, as ``data:`` URLs, instead of uploading them.
            idempotency_key: 1 to 191 visible ASCII characters, kept 24 h by the service; by default a new
                one.
            timeout: Seconds for one try of each request; the client's by default.
            extra_body: Further fields of the request.
            extra_headers: Further headers of the paid request.

        Returns:
            The submitted task: its id, and the idempotency key it was submitted under.

        Raises:
            InvalidArgumentError: An argument cannot be right; nothing was sent.
            ImageError: A picture cannot be sent; nothing was paid.
            APIError: The upload failed, or the edit was not executed.
            SubmissionIndeterminateError: The edit may or may not have been executed; it carries the key.

        Cancelling it during the paid request may leave a paid task whose id is not known; the key is then in
        the exception's notes and in the log.
        """
        submission.check_request(prompt, model, n)
        submission.check_extras(extra_body, extra_headers)
        key = submission.new_idempotency_key(idempotency_key)
        image_urls = await addresses(self._service, image, inline=inline, timeout=timeout)
        payload = {"model": model, "prompt": prompt, "image_urls": image_urls, "n": n, **(extra_body or {})}
        return await submission.submit(
            self._service, _PATH, payload, idempotency_key=key, timeout=timeout, extra_headers=extra_headers
        )

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
        """Upload, submit and wait until the edited images are there. Billable.

        Args:
            image: A path, bytes, binary file, PIL image, ``https://`` or ``data:`` URL, an ``Upload``, or a
                sequence of these; the service edits the first. JPEG, PNG, WebP or GIF of at most
                20,971,520 bytes.
            prompt: What to change, in any language; not empty.
            model: Any model of the service that edits.
            n: How many variants, 1 to 10.
            inline: Send local pictures inside the request, as ``data:`` URLs, instead of uploading them.
            idempotency_key: 1 to 191 visible ASCII characters, kept 24 h by the service; by default a new
                one.
            timeout: Seconds to wait for the submitted task; ``Poll.timeout`` of the client (600) by default.
            extra_body: Further fields of the request.
            extra_headers: Further headers of the paid request.
            on_update: Called with the task once it is submitted and after every look.

        Returns:
            The completed task with its images; save them with ``images.save``, they expire.

        Raises:
            InvalidArgumentError: An argument cannot be right; nothing was sent.
            ImageError: A picture cannot be sent; nothing was paid.
            APIError: The upload failed, the edit was not executed, or waiting met a trouble that time does
                not heal; it then names the task.
            SubmissionIndeterminateError: The edit may or may not have been executed; it carries the key.
            TaskError: The task did not end with images; ``TaskTimeoutError`` when it has not ended in time.

        Cancelling it leaves the submitted task as it is; its id, or the key while the id is not known, is in
        the exception's notes and in the log.
        """
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
        if on_update is not None:
            on_update(task)
        return await self._tasks.wait(task, timeout=timeout, on_update=on_update)
