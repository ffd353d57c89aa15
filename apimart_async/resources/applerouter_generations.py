"""Generations through an OpenAI-compatible service: synchronous and paid."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from apimart_async.resources import image_fields, published_limits
from apimart_async.resources.image_answers import ImageRequest, fetch_images, stream_images
from apimart_async.resources.image_fields import Arguments
from apimart_async.transport import json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from apimart_async.models import ImageEvent, ImageSet
    from apimart_async.resources.image_fields import Background, Moderation, OutputFormat
    from apimart_async.transport.api import Api

_PATH: Final = "/v1/images/generations/"


class AsyncAppleRouterGenerations:
    """Paid generations that return their images at once, without a task."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def create(
        self,
        prompt: str,
        *,
        model: str | None = None,
        n: int = 1,
        size: str | None = None,
        response_format: Literal["url", "b64_json"] | None = None,
        output_format: OutputFormat | None = None,
        output_compression: int | None = None,
        background: Background | None = None,
        quality: str | None = None,
        moderation: Moderation | None = None,
        user: str | None = None,
        safety_identifier: str | None = None,
        timeout: float | None = None,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> ImageSet:
        """Make images from a prompt and return them. Billable.

        The service has no idempotency keys, so a request of unknown outcome is never sent again. An argument
        that is ``None`` is not sent.

        Args:
            prompt: The image to make; without a model and for ``dall-e-2`` at most 1000 characters.
            model: Name of a model of the service; by default none is sent and the service chooses.
            n: Number of images, 1 to 10.
            size: ``"256x256"``, ``"512x512"`` or ``"1024x1024"`` without a model and for ``dall-e-2``; other
                models take other sizes and ``"auto"``.
            response_format: ``"url"`` or ``"b64_json"``; GPT models know no such field and answer in base64.
            output_format: Format of the images; by default the model's own, PNG for GPT models.
            output_compression: Percent for JPEG and WebP, 0 to 100; 100 keeps the best quality.
            background: ``"transparent"``, ``"opaque"`` or ``"auto"``; transparency needs PNG or WebP.
            quality: A value that the model knows, such as ``"low"``, ``"high"`` or ``"auto"``.
            moderation: ``"low"`` for a less strict filter, or ``"auto"``.
            user: Opaque id of your end user; newer models take ``safety_identifier``.
            safety_identifier: Stable and opaque id of your end user, such as a hash.
            timeout: Seconds for an attempt, which may pass without a byte of the answer; by default the
                timeouts of the client.
            extra_body: Additional fields of the request.
            extra_headers: Additional headers of the request.

        Returns:
            The images. URLs expire: save the images with ``images.save``.

        Raises:
            InvalidArgumentError: An argument is invalid; nothing was sent.
            APIError: The generation was not executed.
            SubmissionIndeterminateError: The generation may or may not have been executed.

        Cancellation may leave a paid generation whose result is lost; the log then says so.
        """
        arguments = Arguments(prompt, model, n, timeout, extra_body, extra_headers)
        request = await self._prepare(
            arguments,
            size=size,
            response_format=response_format,
            output_format=output_format,
            output_compression=output_compression,
            background=background,
            quality=quality,
            moderation=moderation,
            user=user,
            safety_identifier=safety_identifier,
        )
        return await fetch_images(self._api, request)

    def stream(
        self,
        prompt: str,
        *,
        model: str | None = None,
        n: int = 1,
        size: str | None = None,
        partial_images: int | None = None,
        output_format: OutputFormat | None = None,
        output_compression: int | None = None,
        background: Background | None = None,
        quality: str | None = None,
        moderation: Moderation | None = None,
        user: str | None = None,
        safety_identifier: str | None = None,
        timeout: float | None = None,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[ImageEvent]]:
        """Make images from a prompt and iterate over their previews and the images as they arrive. Billable.

        For example::

            async with router.generations.stream("A lighthouse", model=…, partial_images=2) as events:
                async for event in events:
                    await router.images.save(event.image, "out/", name=event.type)

        Args:
            prompt: The image to make; without a model and for ``dall-e-2`` at most 1000 characters.
            model: Name of a model of the service; by default none is sent and the service chooses.
            n: Number of images, 1 to 10.
            size: ``"256x256"``, ``"512x512"`` or ``"1024x1024"`` without a model and for ``dall-e-2``; other
                models take other sizes and ``"auto"``.
            partial_images: Most previews of each image, 0 to 3; by default as the service decides.
            output_format: Format of the images; by default the model's own, PNG for GPT models.
            output_compression: Percent for JPEG and WebP, 0 to 100; 100 keeps the best quality.
            background: ``"transparent"``, ``"opaque"`` or ``"auto"``; transparency needs PNG or WebP.
            quality: A value that the model knows, such as ``"low"``, ``"high"`` or ``"auto"``.
            moderation: ``"low"`` for a less strict filter, or ``"auto"``.
            user: Opaque id of your end user; newer models take ``safety_identifier``.
            safety_identifier: Stable and opaque id of your end user, such as a hash.
            timeout: Seconds for an attempt, which may pass without a byte of the answer; by default the
                timeouts of the client.
            extra_body: Additional fields of the request.
            extra_headers: Additional headers of the request.

        Returns:
            An async context manager over an async iterator of ``PartialImageEvent`` and
            ``CompletedImageEvent``; entering it sends the request. A service that does not stream answers
            with all images at once, which come as completed events.

        Raises:
            InvalidArgumentError: An argument is invalid; nothing was sent.
            APIError: The generation was not executed.
            SubmissionIndeterminateError: The generation may or may not have been executed;
                it carries the images that have arrived.

        Cancellation, or leaving the block before the last image, closes the connection and may leave a paid
        generation whose result is lost; the log then says so.
        """
        arguments = Arguments(prompt, model, n, timeout, extra_body, extra_headers)
        prepare = partial(
            self._prepare,
            arguments,
            size=size,
            output_format=output_format,
            output_compression=output_compression,
            background=background,
            quality=quality,
            moderation=moderation,
            user=user,
            safety_identifier=safety_identifier,
            stream=True,
            partial_images=partial_images,
        )
        return stream_images(self._api, prepare)

    async def _prepare(
        self,
        arguments: Arguments,
        **options: image_fields.Value,
    ) -> ImageRequest:
        """Check everything and build the request."""
        options = image_fields.check(arguments, options)
        prompt, model, n = arguments.prompt, arguments.model, arguments.n
        extra_body = arguments.extra_body or {}
        if published_limits.are_published(model):
            published_limits.check_words(prompt, image_fields.text_of(options.get("size")))
        body: dict[str, Any] = {"prompt": prompt, "n": n, **options, **extra_body}
        if model is not None:
            body = {"model": model, **body}
        return ImageRequest(_PATH, json.dumps(body), arguments)
