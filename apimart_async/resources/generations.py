"""Generations: make a picture from a prompt, and from other pictures if there are any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from apimart_async import errors
from apimart_async.resources import submission
from apimart_async.resources.references import addresses
from apimart_async.transport.media import inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from apimart_async.models import Task
    from apimart_async.resources.tasks import AsyncTasks
    from apimart_async.transport.api import Service
    from apimart_async.transport.media.inputs import ImageInput, SingleImage

DEFAULT_MODEL: Final = "gemini-3-pro-image-preview"
_PATH: Final = "/v1/images/generations"
# Models differ in how many they take; the service decides.
MOST_IMAGES: Final = 1_000


class AsyncGenerations:
    """Paid generations of pictures, with any model of the service."""

    def __init__(self, service: Service, tasks: AsyncTasks) -> None:
        self._service = service
        self._tasks = tasks

    async def create(
        self,
        prompt: str,
        *,
        model: str = DEFAULT_MODEL,
        images: ImageInput = (),
        size: str | None = None,
        resolution: str | None = None,
        n: int | None = None,
        quality: str | None = None,
        mask: SingleImage | None = None,
        output_format: str | None = None,
        background: str | None = None,
        webhook: str | None = None,
        language: str | None = None,
        inline: bool = False,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> Task:
        """Upload the reference pictures where that is needed, and submit a generation. Billable.

        Everything is checked before anything is sent, and the paid request is sent again only when it is
        certain that it was not executed. What is ``None`` is not sent: the model has its own default.

        Args:
            prompt: What to make, in any language; not empty.
            model: Any model of the service that makes images.
            images: Reference pictures: one, or a sequence, of every kind ``edits.create`` takes.
            size: Shape or pixels, such as ``"16:9"``, ``"1024x1024"`` or ``"auto"``.
            resolution: ``"1k"``, ``"2k"`` or ``"4k"``.
            n: How many variants, 1 or more; the model says how many it takes.
            quality: In the model's own words.
            mask: Picture of every kind ``edits.create`` takes; says where to change the reference.
            output_format: Such as ``"png"`` or ``"jpeg"``.
            background: Such as ``"transparent"``.
            webhook: ``https://`` address that is called when the task ends; the service appends
                ``/callback`` and does not sign, so confirm with ``tasks.get`` before believing it.
            language: Of error messages, such as ``"en"``.
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
            APIError: An upload failed, or the generation was not executed.
            SubmissionIndeterminateError: It may or may not have been executed; it carries the key.

        Cancelling it during the paid request may leave a paid task whose id is not known; the key is then in
        the exception's notes and in the log.
        """
        submission.check_request(prompt, model, n, MOST_IMAGES)
        submission.check_extras(extra_body, extra_headers)
        if webhook is not None and not webhook.startswith(("https://", "http://")):
            raise errors.InvalidArgumentError(f"webhook must be an http(s) address, not {webhook!r}.")
        key = submission.new_idempotency_key(idempotency_key)
        given = {
            "size": size,
            "resolution": resolution,
            "n": n,
            "quality": quality,
            "output_format": output_format,
            "background": background,
            "webhook": webhook,
            "language": language,
        }
        payload: dict[str, Any] = {"model": model, "prompt": prompt}
        payload |= {name: value for name, value in given.items() if value is not None}
        references = [] if _is_empty(images) else inputs.flatten(images)
        pictures = references if mask is None else [*references, mask]
        placed = await addresses(self._service, pictures, inline=inline, timeout=timeout) if pictures else []
        if mask is not None:
            payload["mask_url"] = placed.pop()
        if placed:
            payload["image_urls"] = placed
        payload |= extra_body or {}
        return await submission.submit(
            self._service, _PATH, payload, idempotency_key=key, timeout=timeout, extra_headers=extra_headers
        )

    async def run(
        self,
        prompt: str,
        *,
        model: str = DEFAULT_MODEL,
        images: ImageInput = (),
        size: str | None = None,
        resolution: str | None = None,
        n: int | None = None,
        quality: str | None = None,
        mask: SingleImage | None = None,
        output_format: str | None = None,
        background: str | None = None,
        webhook: str | None = None,
        language: str | None = None,
        inline: bool = False,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        on_update: Callable[[Task], object] | None = None,
    ) -> Task:
        """Upload, submit and wait until the generated images are there. Billable.

        Args:
            prompt: What to make, in any language; not empty.
            model: Any model of the service that makes images.
            images: Reference pictures: one, or a sequence, of every kind ``edits.create`` takes.
            size: Shape or pixels, such as ``"16:9"``, ``"1024x1024"`` or ``"auto"``.
            resolution: ``"1k"``, ``"2k"`` or ``"4k"``.
            n: How many variants, 1 or more; the model says how many it takes.
            quality: In the model's own words.
            mask: Picture of every kind ``edits.create`` takes; says where to change the reference.
            output_format: Such as ``"png"`` or ``"jpeg"``.
            background: Such as ``"transparent"``.
            webhook: ``https://`` address that is called when the task ends; the service appends
                ``/callback`` and does not sign, so confirm with ``tasks.get`` before believing it.
            language: Of error messages, such as ``"en"``.
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
            APIError: An upload failed, the generation was not executed, or waiting met a trouble that time
                does not heal; it then names the task.
            SubmissionIndeterminateError: It may or may not have been executed; it carries the key.
            TaskError: The task did not end with images; ``TaskTimeoutError`` when it has not ended in time.

        Cancelling it leaves the submitted task as it is; its id, or the key while the id is not known, is in
        the exception's notes and in the log.
        """
        task = await self.create(
            prompt,
            model=model,
            images=images,
            size=size,
            resolution=resolution,
            n=n,
            quality=quality,
            mask=mask,
            output_format=output_format,
            background=background,
            webhook=webhook,
            language=language,
            inline=inline,
            idempotency_key=idempotency_key,
            extra_body=extra_body,
            extra_headers=extra_headers,
        )
        if on_update is not None:
            on_update(task)
        return await self._tasks.wait(task, timeout=timeout, on_update=on_update)


def _is_empty(images: ImageInput) -> bool:
    return isinstance(images, (list, tuple)) and not images
