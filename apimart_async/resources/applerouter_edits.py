"""Edits through an OpenAI-compatible service: synchronous and paid."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from apimart_async import errors
from apimart_async.resources import image_fields, published_limits
from apimart_async.resources.image_answers import ImageRequest, fetch_images, stream_images
from apimart_async.resources.image_fields import Arguments
from apimart_async.transport import json
from apimart_async.transport.concurrency import for_each
from apimart_async.transport.media import forms, inputs, png
from apimart_async.transport.media.multipart import multipart

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from apimart_async.models import ImageEvent, ImageSet
    from apimart_async.resources.image_fields import Background, Moderation, OutputFormat
    from apimart_async.transport.api import Api
    from apimart_async.transport.media.forms import ImageInput, SingleImage
    from apimart_async.transport.media.inputs import Media

_PATH: Final = "/v1/images/edits/"
_MOST_IMAGES: Final = 16


class AsyncAppleRouterEdits:
    """Paid edits that return their images at once, without a task."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def create(
        self,
        image: ImageInput,
        prompt: str,
        *,
        mask: SingleImage | None = None,
        model: str | None = None,
        n: int = 1,
        size: str | None = None,
        response_format: Literal["url", "b64_json"] | None = None,
        input_fidelity: Literal["high", "low"] | None = None,
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
        """Edit an image and return the results. Billable.

        For a request that names no model, and for ``dall-e-2``, the published limits are checked before
        anything is sent; other models have limits of their own. The service has no idempotency keys, so a
        request of unknown outcome is never sent again. An argument that is ``None`` is not sent.

        Args:
            image: A path, bytes, binary file, ``(name, content, MIME type)``, PIL image or ``data:`` URL, or
                for models that take several, a sequence of up to 16. Under the published limits a square PNG
                under 4 MB, with transparent pixels when there is no mask. For other models JPEG, PNG or WebP
                of at most 50 MiB, or a GIF for models that take it; another image is converted if
                ``Media.convert`` of the client allows. Qwen models take ``https://`` URLs too.
            prompt: The change to make; under the published limits at most 1000 characters.
            mask: PNG under 4 MB with the dimensions of the image; fully transparent where to edit.
            model: Name of a model of the service; by default none is sent and the service chooses.
            n: Number of variants, 1 to 10.
            size: ``"256x256"``, ``"512x512"`` or ``"1024x1024"`` under the published limits; other models
                take other sizes and ``"auto"``.
            response_format: ``"url"`` or ``"b64_json"``; GPT models know no such field and answer in base64.
            input_fidelity: ``"high"`` to keep the style and the faces of the image, or ``"low"``.
            output_format: Format of the images; by default the model's own, PNG for GPT models.
            output_compression: Percent for JPEG and WebP, 0 to 100; 100 keeps the best quality.
            background: ``"transparent"``, ``"opaque"`` or ``"auto"``; transparency needs PNG or WebP.
            quality: A value that the model knows, such as ``"low"``, ``"high"`` or ``"auto"``.
            moderation: ``"low"`` for a less strict filter, or ``"auto"``.
            user: Opaque id of your end user; newer models take ``safety_identifier``.
            safety_identifier: Stable and opaque id of your end user, such as a hash.
            timeout: Seconds for an attempt, which may pass without a byte of the answer; by default the
                timeouts of the client.
            extra_body: Additional fields; a nested field of a form becomes ``name[key]``. The additional
                parameters of Qwen models go into ``parameters``.
            extra_headers: Additional headers of the request.

        Returns:
            The images. URLs expire: save the images with ``images.save``.

        Raises:
            InvalidArgumentError: An argument is invalid; nothing was sent.
            ImageError: An image cannot be sent; nothing was sent.
            APIError: The edit was not executed.
            SubmissionIndeterminateError: The edit may or may not have been executed.

        Cancellation may leave a paid edit whose result is lost; the log then says so.
        """
        arguments = Arguments(prompt, model, n, timeout, extra_body, extra_headers)
        request = await self._prepare(
            image,
            mask,
            arguments,
            size=size,
            response_format=response_format,
            input_fidelity=input_fidelity,
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
        image: ImageInput,
        prompt: str,
        *,
        mask: SingleImage | None = None,
        model: str | None = None,
        n: int = 1,
        size: str | None = None,
        partial_images: int | None = None,
        input_fidelity: Literal["high", "low"] | None = None,
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
        """Edit an image and iterate over its previews and the results as they arrive. Billable.

        For example::

            async with router.edits.stream("photo.jpg", "A starry sky", model=…, partial_images=2) as events:
                async for event in events:
                    await router.images.save(event.image, "out/", name=event.type)

        Everything is checked as ``create`` checks it.

        Args:
            image: A path, bytes, binary file, ``(name, content, MIME type)``, PIL image or ``data:`` URL, or
                for models that take several, a sequence of up to 16. Under the published limits a square PNG
                under 4 MB, with transparent pixels when there is no mask. For other models JPEG, PNG or WebP
                of at most 50 MiB, or a GIF for models that take it; another image is converted if
                ``Media.convert`` of the client allows. Qwen models take ``https://`` URLs too.
            prompt: The change to make; under the published limits at most 1000 characters.
            mask: PNG under 4 MB with the dimensions of the image; fully transparent where to edit.
            model: Name of a model of the service; by default none is sent and the service chooses.
            n: Number of variants, 1 to 10.
            size: ``"256x256"``, ``"512x512"`` or ``"1024x1024"`` under the published limits; other models
                take other sizes and ``"auto"``.
            partial_images: Most previews of each image, 0 to 3; by default as the service decides.
            input_fidelity: ``"high"`` to keep the style and the faces of the image, or ``"low"``.
            output_format: Format of the images; by default the model's own, PNG for GPT models.
            output_compression: Percent for JPEG and WebP, 0 to 100; 100 keeps the best quality.
            background: ``"transparent"``, ``"opaque"`` or ``"auto"``; transparency needs PNG or WebP.
            quality: A value that the model knows, such as ``"low"``, ``"high"`` or ``"auto"``.
            moderation: ``"low"`` for a less strict filter, or ``"auto"``.
            user: Opaque id of your end user; newer models take ``safety_identifier``.
            safety_identifier: Stable and opaque id of your end user, such as a hash.
            timeout: Seconds for an attempt, which may pass without a byte of the answer; by default the
                timeouts of the client.
            extra_body: Additional fields; a nested field of a form becomes ``name[key]``.
            extra_headers: Additional headers of the request.

        Returns:
            An async context manager over an async iterator of ``PartialImageEvent`` and
            ``CompletedImageEvent``; entering it sends the request. A service that does not stream answers
            with all images at once, which come as completed events.

        Raises:
            InvalidArgumentError: An argument is invalid; nothing was sent.
            ImageError: An image cannot be sent; nothing was sent.
            APIError: The edit was not executed.
            SubmissionIndeterminateError: The edit may or may not have been executed;
                it carries the images that have arrived.

        Cancellation, or leaving the block before the last image, closes the connection and may leave a paid
        edit whose result is lost; the log then says so.
        """
        arguments = Arguments(prompt, model, n, timeout, extra_body, extra_headers)
        prepare = partial(
            self._prepare,
            image,
            mask,
            arguments,
            size=size,
            input_fidelity=input_fidelity,
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
        image: ImageInput,
        mask: SingleImage | None,
        arguments: Arguments,
        **options: image_fields.Value,
    ) -> ImageRequest:
        """Check everything and build the request."""
        options = image_fields.check(arguments, options)
        prompt, model, n = arguments.prompt, arguments.model, arguments.n
        extra_body = arguments.extra_body or {}
        images = forms.flatten(image)
        if len(images) > _MOST_IMAGES:
            raise errors.ImageError(f"At most {_MOST_IMAGES} images can be sent, not {len(images)}.")
        if model is not None and image_fields.takes_json(model):
            image_fields.check_qwen(mask, options)
            urls = await for_each(self._url, images)
            body = image_fields.qwen_body(urls, prompt, model, n, options.get("size"), extra_body)
            path = image_fields.JSON_EDITS_PATH
            return ImageRequest(path, json.dumps(body), arguments)
        opened = await for_each(self._open, images)
        opened_mask = None if mask is None else await self._open(mask)
        if published_limits.are_published(model):
            published_limits.check_words(prompt, image_fields.text_of(options.get("size")))
            await published_limits.check_images(opened, opened_mask)
        name = "image" if len(opened) == 1 else "image[]"
        files = [(name, each) for each in opened]
        if opened_mask is not None:
            files.append(("mask", opened_mask))
        fields = {"prompt": prompt, "model": model, "n": n, **options, **extra_body}
        form = multipart(files, image_fields.form_fields(fields))
        return ImageRequest(_PATH, form, arguments)

    async def _url(self, image: SingleImage) -> str:
        return forms.remote_url(image) or await inputs.data_url(await self._open(image))

    async def _open(self, image: SingleImage) -> Media:
        if forms.remote_url(image) is not None:
            raise errors.ImageError(
                "This model takes the image itself, not a URL: give a path or bytes. Qwen models take URLs."
            )
        options = self._api.settings.media
        media = await inputs.open_media(image, limit=png.SENT_LIMIT, convert=options.convert == "auto")
        return await inputs.as_sent(media, options)
