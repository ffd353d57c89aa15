"""Generations: make images from a prompt and from reference images."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from apimart_async import errors
from apimart_async.arguments import check_types
from apimart_async.polling.watch import naming
from apimart_async.resources import submission
from apimart_async.resources.tasks import check_wait_timeout
from apimart_async.resources.uploads import check_images, image_urls, renewing
from apimart_async.transport.media import forms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from apimart_async.models import Task
    from apimart_async.resources.schemas import Schemas
    from apimart_async.resources.submission import SentOperation
    from apimart_async.resources.tasks import AsyncTasks
    from apimart_async.resources.uploads import UploadMemory
    from apimart_async.transport.api import Api
    from apimart_async.transport.media.forms import ImageInput, SingleImage

DEFAULT_MODEL: Final = "gemini-3-pro-image-preview"


class AsyncGenerations:
    """Paid generations of images, with any model of the service."""

    def __init__(self, api: Api, tasks: AsyncTasks, schemas: Schemas, memory: UploadMemory | None) -> None:
        self._api = api
        self._tasks = tasks
        self._schemas = schemas
        self._memory = memory

    async def create(
        self,
        prompt: str | None = None,
        *,
        model: str = DEFAULT_MODEL,
        images: ImageInput = (),
        size: str | None = None,
        resolution: str | None = None,
        n: int | None = None,
        quality: str | None = None,
        mask: SingleImage | None = None,
        roles: Sequence[str] = (),
        operation: SentOperation | None = None,
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
        """Upload the reference images if necessary and submit a generation. Billable.

        All arguments are checked before anything is sent. The paid request is sent again only if it certainly
        was not executed, or, as ``Retry.indeterminate`` says, under the same key. An argument that is
        ``None`` is not sent: the model has its own default.

        Args:
            prompt: The image to make, in any language; not empty. ``None`` only for a segmentation, or with
                ``messages`` in ``extra_body``.
            model: Any image model of the service; default ``"gemini-3-pro-image-preview"``.
            images: A reference image, or a sequence of them, in any form that ``edits.create`` accepts.
            size: Aspect ratio or pixels, such as ``"16:9"``, ``"1024x1024"`` or ``"auto"``.
            resolution: ``"1k"``, ``"2k"`` or ``"4k"``.
            n: Number of variants, at least 1; the maximum depends on the model: 12 for grok-imagine-2.0-ext,
                15 for seedream models, otherwise the service decides.
            quality: A value that the model knows.
            mask: Image in any form that ``edits.create`` accepts; marks where to change the reference.
            roles: The role of each reference image, for models that take ``image_with_roles``.
            operation: ``"segment"``, which is free and takes no prompt, or ``"region_edit"``; both need a
                reference image, and a model that takes them, such as ``"grok-imagine-2.0-ext"``.
            output_format: Such as ``"png"`` or ``"jpeg"``.
            background: Such as ``"transparent"``.
            webhook: ``http(s)://`` URL that the service calls when the task ends, with ``/callback``
                appended. The call is not signed, so confirm it with ``tasks.get``.
            language: Language of error messages, such as ``"en"``.
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
            APIError: An upload failed, or the generation was not executed.
            SubmissionIndeterminateError: It may or may not have been executed; it carries the key.

        Cancellation during the paid request may leave a paid task of unknown id; ``interrupted(error)``
        returns its key then, and the log names it.
        """
        check_types(extra_body=extra_body)
        references = [] if _is_empty(images) else forms.flatten(images)
        submission.check_operation(operation, model, prompt, has_images=bool(references))
        submission.check_roles(roles, len(references))
        options = {
            "size": size,
            "resolution": resolution,
            "quality": quality,
            "output_format": output_format,
            "background": background,
            "webhook": webhook,
            "language": language,
        }
        submission.check_request(
            "" if prompt is None else prompt,
            model,
            n,
            submission.max_n(model),
            has_prompt=submission.has_prompt(operation, extra_body or {}) or prompt is not None,
            has_n=n is not None,
            idempotency_key=idempotency_key,
            extra_body=extra_body,
            extra_headers=extra_headers,
            timeout=timeout,
            inline=inline,
            **options,
        )
        if webhook is not None and not webhook.startswith(("https://", "http://")):
            raise errors.InvalidArgumentError(f"webhook must be an http(s) address, not {webhook!r}.")
        optional = {"prompt": prompt, "operation": operation, "n": n, **options}
        payload: dict[str, Any] = {"model": model}
        payload |= {name: value for name, value in optional.items() if value is not None}
        given = references if mask is None else [*references, mask]
        checked = await check_images(self._api, self._memory, given, inline=inline) if given else []
        name = "image_with_roles" if roles else "image_urls"
        fields: dict[str, Any] = {name: references} if references else {}
        fields |= {} if mask is None else {"mask_url": "(a mask)"}
        schema = await self._schemas.check(submission.GENERATIONS, payload | fields | dict(extra_body or {}))
        urls: list[str] = []
        if checked:
            urls = await image_urls(self._api, self._memory, checked, inline=inline, timeout=timeout)
            if mask is not None:
                payload["mask_url"] = urls[-1]
            of_references = urls[: len(references)]
            if roles:
                pairs = zip(of_references, roles, strict=True)
                payload["image_with_roles"] = [{"url": url, "role": role} for url, role in pairs]
            elif of_references:
                payload["image_urls"] = of_references
        payload |= extra_body or {}
        async with renewing(self._memory, urls), submission.operation(self._api, payload):
            return await submission.submit(
                self._api,
                submission.GENERATIONS,
                payload,
                idempotency_key=idempotency_key,
                timeout=timeout,
                extra_headers=extra_headers,
                schemas=self._schemas,
                schema=schema,
            )

    async def collect(self, idempotency_key: str, *, timeout: float | None = None) -> Task:
        """Ask again for the answer of a generation that was lost, under its key.

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
        prompt: str | None = None,
        *,
        model: str = DEFAULT_MODEL,
        images: ImageInput = (),
        size: str | None = None,
        resolution: str | None = None,
        n: int | None = None,
        quality: str | None = None,
        mask: SingleImage | None = None,
        roles: Sequence[str] = (),
        operation: SentOperation | None = None,
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
        """Upload the reference images if necessary, submit a generation and wait for its images. Billable.

        Args:
            prompt: The image to make, in any language; not empty. ``None`` only for a segmentation, or with
                ``messages`` in ``extra_body``.
            model: Any image model of the service; default ``"gemini-3-pro-image-preview"``.
            images: A reference image, or a sequence of them, in any form that ``edits.create`` accepts.
            size: Aspect ratio or pixels, such as ``"16:9"``, ``"1024x1024"`` or ``"auto"``.
            resolution: ``"1k"``, ``"2k"`` or ``"4k"``.
            n: Number of variants, at least 1; the maximum depends on the model: 12 for grok-imagine-2.0-ext,
                15 for seedream models, otherwise the service decides.
            quality: A value that the model knows.
            mask: Image in any form that ``edits.create`` accepts; marks where to change the reference.
            roles: The role of each reference image, for models that take ``image_with_roles``.
            operation: ``"segment"``, which is free and takes no prompt, or ``"region_edit"``; both need a
                reference image, and a model that takes them, such as ``"grok-imagine-2.0-ext"``.
            output_format: Such as ``"png"`` or ``"jpeg"``.
            background: Such as ``"transparent"``.
            webhook: ``http(s)://`` URL that the service calls when the task ends, with ``/callback``
                appended. The call is not signed, so confirm it with ``tasks.get``.
            language: Language of error messages, such as ``"en"``.
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
            APIError: An upload failed, the generation was not executed, or a poll failed with a permanent
                error, which then carries the task id.
            SubmissionIndeterminateError: It may or may not have been executed; it carries the key.
            TaskError: The task did not complete; ``TaskTimeoutError`` if it has not ended in time.

        Cancellation leaves the submitted task running; ``interrupted(error)`` returns its id, or its key
        while the id is unknown, and the log names it.
        """
        # Before the paid submit.
        check_wait_timeout(timeout)
        check_types(on_update=on_update)
        described: dict[str, Any] = {"model": model, "operation": operation}
        described |= {} if _is_empty(images) else {"image_urls": ()}
        async with submission.operation(self._api, described):
            task = await self.create(
                prompt,
                model=model,
                images=images,
                size=size,
                resolution=resolution,
                n=n,
                quality=quality,
                mask=mask,
                roles=roles,
                operation=operation,
                output_format=output_format,
                background=background,
                webhook=webhook,
                language=language,
                inline=inline,
                idempotency_key=idempotency_key,
                extra_body=extra_body,
                extra_headers=extra_headers,
            )
            with naming(task, logging.WARNING):
                if on_update is not None:
                    on_update(task)
                return await self._tasks.wait(task, timeout=timeout, on_update=on_update)


def _is_empty(images: ImageInput) -> bool:
    return isinstance(images, (list, tuple)) and not images
