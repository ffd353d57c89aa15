"""The blocking twins of the async clients, method for method.

Written by ``python -m apimart_async.sync.generate``: change the async sources instead.
"""
# ruff: noqa: SLF001  # the twins open one another
# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from apimart_async.applerouter import AsyncAppleRouter
from apimart_async.batch.edit_many import run_many as async_run_many
from apimart_async.batch.estimate import estimate as async_estimate
from apimart_async.client import AsyncApimart
from apimart_async.credentials import hide
from apimart_async.resources import edits, generations
from apimart_async.resources.edits import DEFAULT_MODEL
from apimart_async.sync.portal import Portal, portal_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from ssl import SSLContext

    import aiohttp

    from apimart_async import config
    from apimart_async.batch.estimate import Estimate
    from apimart_async.batch.job import Job, Outcome
    from apimart_async.batch.journal.protocol import Journal
    from apimart_async.batch.progress import Progress
    from apimart_async.batch.shutdown import Shutdown
    from apimart_async.config import Check
    from apimart_async.credentials import Secret
    from apimart_async.hooks import EventHooks
    from apimart_async.models import (
        AccountUsage,
        Balance,
        DurationEstimate,
        Image,
        ImageEvent,
        ImageSet,
        Model,
        ModelSchema,
        Quote,
        Task,
        Upload,
    )
    from apimart_async.polling.watch import Notification
    from apimart_async.resources.account import AsyncAccount
    from apimart_async.resources.applerouter_edits import AsyncAppleRouterEdits
    from apimart_async.resources.applerouter_generations import AsyncAppleRouterGenerations
    from apimart_async.resources.catalogue import AsyncModels
    from apimart_async.resources.edits import AsyncEdits
    from apimart_async.resources.generations import AsyncGenerations
    from apimart_async.resources.image_fields import Background, Moderation, OutputFormat
    from apimart_async.resources.images import AsyncImages
    from apimart_async.resources.submission import SentOperation
    from apimart_async.resources.tasks import AsyncTasks
    from apimart_async.resources.uploads import AsyncUploads
    from apimart_async.transport.media.forms import ImageInput, SingleImage


class Account:
    """The account's balance, its use, and the models it may use. Free."""

    def __init__(self, wrapped: AsyncAccount, portal: Portal) -> None:
        self._wrapped = wrapped
        self._portal = portal

    def balance(self, *, scope: Literal["key", "user"] = "key", timeout: float | None = None) -> Balance:
        """Fetch the balance.

        Args:
            scope: ``"key"``, the default, for the quota of this API key; ``"user"`` for the whole account.
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            The remaining and the used amount, in USD.

        Raises:
            InvalidArgumentError: The scope is neither ``"key"`` nor ``"user"``.
            APIError: The request failed after all retries, or the service answered HTTP 200 with
                ``"success": false``.

        Cancellation leaves nothing behind.
        """
        return self._portal.call(self._wrapped.balance, scope=scope, timeout=timeout)

    def models(self, *, timeout: float | None = None) -> list[Model]:
        """Fetch the models of the service.

        Args:
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            The models; their ``id`` is the value for ``model=``.

        Raises:
            APIError: The request failed after all retries.

        Cancellation leaves nothing behind.
        """
        return self._portal.call(self._wrapped.models, timeout=timeout)

    def usage(self, days: int = 31, *, timeout: float | None = None) -> AccountUsage:
        """Fetch the use of the account in the last days.

        The service takes 60 of these requests a minute, and its numbers are up to 60 seconds old.

        Args:
            days: Number of days, 1 to 31; default 31.
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            Cost in USD and number of requests, in all and by day as far as the service reports them.

        Raises:
            InvalidArgumentError: ``days`` is not a whole number from 1 to 31.
            APIError: The request failed after all retries; ``code`` is ``"usage_unavailable"`` while the
                service does not know the use.

        Cancellation leaves nothing behind.
        """
        return self._portal.call(self._wrapped.usage, days, timeout=timeout)


class AppleRouterEdits:
    """Paid edits that return their images at once, without a task."""

    def __init__(self, wrapped: AsyncAppleRouterEdits, portal: Portal) -> None:
        self._wrapped = wrapped
        self._portal = portal

    def create(
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
        return self._portal.call(
            self._wrapped.create,
            image,
            prompt,
            mask=mask,
            model=model,
            n=n,
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
            timeout=timeout,
            extra_body=extra_body,
            extra_headers=extra_headers,
        )

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
    ) -> AbstractContextManager[Iterator[ImageEvent]]:
        """Edit an image and iterate over its previews and the results as they arrive. Billable.

        For example::

            with router.edits.stream("photo.jpg", "A starry sky", model=…, partial_images=2) as events:
                for event in events:
                    router.images.save(event.image, "out/", name=event.type)

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
            An async context manager over an iterator of ``PartialImageEvent`` and
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
        return self._portal.open(
            self._wrapped.stream,
            image,
            prompt,
            mask=mask,
            model=model,
            n=n,
            size=size,
            partial_images=partial_images,
            input_fidelity=input_fidelity,
            output_format=output_format,
            output_compression=output_compression,
            background=background,
            quality=quality,
            moderation=moderation,
            user=user,
            safety_identifier=safety_identifier,
            timeout=timeout,
            extra_body=extra_body,
            extra_headers=extra_headers,
        )


class AppleRouterGenerations:
    """Paid generations that return their images at once, without a task."""

    def __init__(self, wrapped: AsyncAppleRouterGenerations, portal: Portal) -> None:
        self._wrapped = wrapped
        self._portal = portal

    def create(
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
        return self._portal.call(
            self._wrapped.create,
            prompt,
            model=model,
            n=n,
            size=size,
            response_format=response_format,
            output_format=output_format,
            output_compression=output_compression,
            background=background,
            quality=quality,
            moderation=moderation,
            user=user,
            safety_identifier=safety_identifier,
            timeout=timeout,
            extra_body=extra_body,
            extra_headers=extra_headers,
        )

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
    ) -> AbstractContextManager[Iterator[ImageEvent]]:
        """Make images from a prompt and iterate over their previews and the images as they arrive. Billable.

        For example::

            with router.generations.stream("A lighthouse", model=…, partial_images=2) as events:
                for event in events:
                    router.images.save(event.image, "out/", name=event.type)

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
            An async context manager over an iterator of ``PartialImageEvent`` and
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
        return self._portal.open(
            self._wrapped.stream,
            prompt,
            model=model,
            n=n,
            size=size,
            partial_images=partial_images,
            output_format=output_format,
            output_compression=output_compression,
            background=background,
            quality=quality,
            moderation=moderation,
            user=user,
            safety_identifier=safety_identifier,
            timeout=timeout,
            extra_body=extra_body,
            extra_headers=extra_headers,
        )


class Models:
    """The models of the service and the requests they take. Free."""

    def __init__(self, wrapped: AsyncModels, portal: Portal) -> None:
        self._wrapped = wrapped
        self._portal = portal

    def list(self, *, timeout: float | None = None) -> Sequence[Model]:
        """Fetch the models of the service.

        Args:
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            The models; their ``id`` is the value for ``model=``.

        Raises:
            APIError: The request failed after all retries.

        Cancellation leaves nothing behind.
        """
        return self._portal.call(self._wrapped.list, timeout=timeout)

    def schema(
        self,
        model: str,
        operation: str | None = None,
        *,
        timeout: float | None = None,
    ) -> ModelSchema | None:
        """Return the schema of a model: its endpoint, its parameters and its promises.

        The client and its copies keep the answer for an hour, also that there is no schema, and then ask the
        service whether it has changed. Calls at the same time share one request.

        Args:
            model: Name of the model.
            operation: One of several operations of the model; its image generation by default.
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            The schema; ``None`` if the service has none for this model.

        Raises:
            InvalidArgumentError: The name is empty.
            APIError: The request failed after all retries.

        Cancellation leaves nothing behind; another call that waits for the same schema sends its own request.
        """
        return self._portal.call(self._wrapped.schema, model, operation, timeout=timeout)

    def check(self, request: Mapping[str, Any], *, path: str | None = None) -> None:
        """Check the fields of a paid request against the schema of its model, without sending the request.

        Edits, generations and batches do the same before they upload anything. Nothing is checked if the
        service has no schema of the model, does not answer within 5 s, or if the client has ``check="off"``.

        Args:
            request: Fields as the service takes them, ``model`` among them; of images only the number counts.
            path: Endpoint of the request, such as ``"/v1/images/generations"``; that of edits with the model
                by default.

        Raises:
            InvalidArgumentError: The model does not take the request. The message names the parameter, its
                value and the values that are allowed.

        Cancellation leaves nothing behind.

        .. versionadded:: 0.1
        """
        self._portal.call(self._wrapped.check, request, path=path)

    def docs(self, model: str, *, timeout: float | None = None) -> Mapping[str, Any] | None:
        """Fetch the documentation of a model.

        Args:
            model: Name of the model.
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            The JSON object of the service, unchanged; ``None`` if the service has no documentation of it.

        Raises:
            InvalidArgumentError: The name is empty.
            APIError: The request failed after all retries.

        Cancellation leaves nothing behind.
        """
        return self._portal.call(self._wrapped.docs, model, timeout=timeout)


class Edits:
    """Paid edits of images. ``task.cost`` has the cost once the task has completed."""

    def __init__(self, wrapped: AsyncEdits, portal: Portal) -> None:
        self._wrapped = wrapped
        self._portal = portal

    def create(
        self,
        image: ImageInput,
        prompt: str,
        *,
        model: str = edits.DEFAULT_MODEL,
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
        return self._portal.call(
            self._wrapped.create,
            image,
            prompt,
            model=model,
            n=n,
            inline=inline,
            idempotency_key=idempotency_key,
            timeout=timeout,
            extra_body=extra_body,
            extra_headers=extra_headers,
        )

    def collect(self, idempotency_key: str, *, timeout: float | None = None) -> Task:
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
        return self._portal.call(self._wrapped.collect, idempotency_key, timeout=timeout)

    def run(
        self,
        image: ImageInput,
        prompt: str,
        *,
        model: str = edits.DEFAULT_MODEL,
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
        return self._portal.call(
            self._wrapped.run,
            image,
            prompt,
            model=model,
            n=n,
            inline=inline,
            idempotency_key=idempotency_key,
            timeout=timeout,
            extra_body=extra_body,
            extra_headers=extra_headers,
            on_update=on_update,
        )


class Generations:
    """Paid generations of images, with any model of the service."""

    def __init__(self, wrapped: AsyncGenerations, portal: Portal) -> None:
        self._wrapped = wrapped
        self._portal = portal

    def create(
        self,
        prompt: str | None = None,
        *,
        model: str = generations.DEFAULT_MODEL,
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
        return self._portal.call(
            self._wrapped.create,
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
            timeout=timeout,
            extra_body=extra_body,
            extra_headers=extra_headers,
        )

    def collect(self, idempotency_key: str, *, timeout: float | None = None) -> Task:
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
        return self._portal.call(self._wrapped.collect, idempotency_key, timeout=timeout)

    def run(
        self,
        prompt: str | None = None,
        *,
        model: str = generations.DEFAULT_MODEL,
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
        return self._portal.call(
            self._wrapped.run,
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
            timeout=timeout,
            extra_body=extra_body,
            extra_headers=extra_headers,
            on_update=on_update,
        )


class Images:
    """Result images, downloaded from any host without the API key and verified to be whole."""

    def __init__(self, wrapped: AsyncImages, portal: Portal) -> None:
        self._wrapped = wrapped
        self._portal = portal

    def save(
        self,
        result: Task | ImageSet | Image | Sequence[Image],
        directory: str | os.PathLike[str],
        *,
        name: str = "{task_id}-{index}",
        fsync: bool = False,
    ) -> list[Path]:
        """Save every image of a result as a file.

        A file gets its name once the image is whole and verified. No file is ever overwritten: where a file
        of that name has other content, ``-2``, ``-3``, … is added; where it has the same content, it is kept.
        A task's image that was saved before is not downloaded again if its name identifies it: the template
        has ``{task_id}``, and ``{index}`` unless the task has a single image.

        Args:
            result: A completed task, an image set, an image or a list of images.
            directory: Directory of the files; created when missing. Or a URL of object storage,
                ``s3://bucket/folder``, ``gs://…`` or ``az://…``, with the credentials of the environment and
                the extra ``storage``: an object becomes visible when its image is whole, and the paths are
                ``ObjectPath``.
            name: Template of the file names without extension, which comes from the content; default
                ``"{task_id}-{index}"``. ``{task_id}`` is the task (its idempotency key if the service gave it
                no id; for an image set its creation in Unix seconds), ``{index}`` the position of the image
                in the result from 1, ``{index:02}`` the same with zeros; ``{{`` is a brace. Without
                ``{index}``, the second image of a name gets ``-2``, and so on.
            fsync: Whether to return only when the files would survive a power cut, which takes milliseconds
                for each; default False. Without it, files survive the death of the program. Batches sync
                before they record a job as saved.

        Returns:
            The paths of the files, in the order of the images.

        Raises:
            DownloadError: An image could not be downloaded whole, is not an image, or could not be written.
                The other images are saved nevertheless, and the message names the failed ones. The task stays
                paid: save it again; once its URLs have expired, fetch it with ``tasks.get`` first.
            InvalidArgumentError: The template has another field or does not make a plain file name, the task
                has not ended yet, the URL of the storage is malformed, or the extra ``storage`` is missing.
            TaskFailedError: The task failed and has no images.
            TaskCancelledError: The service cancelled the task.
            TaskExpiredError: The service no longer has the task.

        Cancellation leaves the images that are whole and nothing of the others.
        """
        return self._portal.call(self._wrapped.save, result, directory, name=name, fsync=fsync)

    def read(self, image: Image | str) -> bytes:
        """Download an image into memory.

        Args:
            image: The image, or its ``https://`` or ``data:`` URL.

        Returns:
            The bytes of the file, at most ``Limits.download_bytes``.

        Raises:
            DownloadError: The image could not be downloaded whole, or is not an image.
            InvalidArgumentError: The argument is neither an image nor a URL.

        Cancellation closes the connection.
        """
        return self._portal.call(self._wrapped.read, image)

    def inspect(self, image: Image | str) -> Image:
        """Read the content type and the dimensions of an image from the first bytes of its file.

        The rest of the file is not downloaded.

        Args:
            image: The image, or its ``https://`` or ``data:`` URL.

        Returns:
            The image with ``content_type``, and with ``width`` and ``height`` for JPEG, PNG, WebP and GIF.
            They are those of the pixels in the file, which EXIF data may ask to turn.

        Raises:
            DownloadError: The image could not be opened, or is not an image.
            InvalidArgumentError: The argument is neither an image nor a URL.

        Cancellation closes the connection.
        """
        return self._portal.call(self._wrapped.inspect, image)

    def stream(self, image: Image | str) -> AbstractContextManager[Iterator[bytes]]:
        """Download an image in chunks.

        Only the end of the iteration confirms that the image is whole. Unlike ``save`` and ``read``, a stream
        does not start again when the connection breaks, as the caller has earlier chunks already.

        Args:
            image: The image, or its ``https://`` or ``data:`` URL.

        Returns:
            A context manager whose value is an iterator of bytes, at most
            ``Limits.download_bytes`` in all.

        Raises:
            DownloadError: On entering, the image could not be opened; from the iterator, the connection broke
                or the content is not an image.
            InvalidArgumentError: The argument is neither an image nor a URL.

        Leaving the context early and cancellation close the connection; after a cancellation, the iterator
        raises a ``DownloadError`` instead of the rest.
        """
        return self._portal.open(self._wrapped.stream, image)


class Tasks:
    """Tasks: the service's runs of its models. They go on without a client, and cannot be cancelled."""

    def __init__(self, wrapped: AsyncTasks, portal: Portal) -> None:
        self._wrapped = wrapped
        self._portal = portal

    def get(self, task: Task | str | None, *, language: str = "en", timeout: float | None = None) -> Task:
        """Fetch a task as it is now.

        Args:
            task: The task, or its id.
            language: Language of error messages: en (the default), zh, ja, ko, ru, fr, de, id, pt or es.
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            The task in its current status; a failed one raises no error here.

        Raises:
            InvalidArgumentError: There is no id, the language is not one of those, or the task was submitted
                to an address that ``base_url`` does not name, and no address in it knows the task.
            NotFoundError: The service does not know the task, or no longer: it keeps tasks for some days.
            APIError: The request failed after all retries; the error names the task.

        Cancellation leaves the task as it is.
        """
        return self._portal.call(self._wrapped.get, task, language=language, timeout=timeout)

    def wait(
        self,
        task: Task | str | None,
        *,
        timeout: float | None = None,
        on_update: Callable[[Task], object] | None = None,
        notified: Notification | None = None,
    ) -> Task:
        """Wait until a task has its images.

        Until the deadline, the wait survives rate limits, server errors, dropped connections and unknown
        statuses.

        Args:
            task: The task, or its id.
            timeout: Seconds, more than 0; ``Poll.timeout`` of the client (600) by default.
            on_update: Called with the task after every poll, for progress displays.
            notified: Event that is set when a webhook says that the task has ended: of ``asyncio``, anyio or
                ``threading``. The task is polled at once then; before, it is polled rarely, in case the
                notification is lost.

        Returns:
            The completed task.

        Raises:
            TaskFailedError: The task failed; failed tasks are free.
            TaskCancelledError: The service cancelled the task.
            TaskExpiredError: The service does not know the task, or no longer.
            TaskTimeoutError: The deadline passed. The task goes on: wait for ``error.task_id`` again.
            APIError: An error that a later poll would meet again, such as ``AuthenticationError``; it names
                the task.
            TaskResultError: The task has completed, but no image was found in its result, in a second answer
                either; ``error.task.raw`` is the answer.
            InvalidArgumentError: There is no id, the timeout is not more than 0, or the task was submitted to
                an address that ``base_url`` does not name, and no address in it knows the task.

        Cancellation leaves the task as it is; ``interrupted(error)`` returns its id, and the log names it.
        """
        return self._portal.call(
            self._wrapped.wait,
            task,
            timeout=timeout,
            on_update=on_update,
            notified=notified,
        )

    def watch(
        self,
        tasks: Iterable[Task | str | None],
        *,
        timeout: float | None = None,
    ) -> AbstractContextManager[Iterator[Task]]:
        """Wait for many tasks at once, and take each as soon as it ends.

        Every task comes exactly once: completed, failed, cancelled or expired, or, at the deadline, as last
        seen (``task.is_finished`` is then false).

        Args:
            tasks: Tasks, or their ids.
            timeout: Seconds for all together, more than 0; ``Poll.timeout`` of the client (600) by default.

        Returns:
            A context manager whose value is an iterator of tasks.

        Raises:
            APIError: From the iterator: an error that a later poll would meet again; it names the task.
            InvalidArgumentError: An id is missing, or the timeout is not more than 0.

        Leaving the block early, and cancellation, leave the tasks as they are.
        """
        return self._portal.open(self._wrapped.watch, tasks, timeout=timeout)

    def duration_stats(self) -> dict[str, Any]:
        """Return the duration statistics of each model, resolution and number of images.

        They are plain data that JSON can hold, some KB each. Batches keep them in their journal; other
        programs may keep them anywhere, and start the next run with ``load_duration_stats``.
        """
        return self._wrapped.duration_stats()

    def load_duration_stats(self, data: Mapping[str, Any]) -> None:
        """Load the value of ``duration_stats``, from this run or another.

        Args:
            data: The value. Malformed entries, other versions, and models with statistics are skipped.
        """
        return self._wrapped.load_duration_stats(data)

    def hint(self, task: Task | str | None) -> None:
        """Poll a task at once, because there is a sign that it has ended, such as a webhook.

        The wait for the task, if this client has one, fetches it with a request of its own and decides by the
        answer; the hint itself is not trusted. Without such a wait nothing happens, and repeated hints are
        merged. The call returns before the poll.

        Args:
            task: The task, or its id.

        Raises:
            InvalidArgumentError: The id is empty.

        Cancellation leaves the waits as they are.
        """
        self._portal.call(self._wrapped.hint, task)

    def estimate(
        self,
        model: str,
        *,
        resolution: str | None = None,
        n: int | None = None,
    ) -> DurationEstimate | None:
        """Estimate how long tasks take, from those that this client has waited for.

        Args:
            model: Name of the model.
            resolution: Resolution that is asked for, for models that have one.
            n: Number of images that are asked for; 1 by default.

        Returns:
            The estimate; ``None`` until three such tasks have ended.
        """
        return self._wrapped.estimate(model, resolution=resolution, n=n)


class Uploads:
    """Images on the service's file host. An upload is free and can be edited any number of times."""

    def __init__(self, wrapped: AsyncUploads, portal: Portal) -> None:
        self._wrapped = wrapped
        self._portal = portal

    def create(
        self,
        image: SingleImage,
        *,
        filename: str | None = None,
        timeout: float | None = None,
    ) -> Upload:
        """Upload an image, whether or not it was uploaded before.

        Args:
            image: A path, bytes, binary file, ``(name, content, MIME type)``, PIL image or ``data:`` URL.
                JPEG, PNG, WebP or GIF, judged by content, at most 20,971,520 bytes; another image is
                converted if ``Media.convert`` of the client allows. Files are streamed in chunks. Private
                metadata, such as the place of a photo, is left out unless ``Media.keep_metadata`` is set.
            filename: Name of the stored file; the image's own name by default.
            timeout: Seconds for an attempt of the request; the client's timeout by default.

        Returns:
            The upload; its URL is public and works for 72 h.

        Raises:
            ImageError: The image cannot be sent; nothing was sent.
            APIError: The upload failed after all retries; uploads are free and safe to repeat.

        Cancellation leaves nothing behind, or an unused upload.
        """
        return self._portal.call(self._wrapped.create, image, filename=filename, timeout=timeout)

    def get_or_create(self, image: SingleImage, *, timeout: float | None = None) -> Upload:
        """Return an upload of an image that this client has made before, or upload the image.

        Edits, generations and batches do the same for their images. Images are the same if their content is
        the same, whatever their names. Concurrent calls for an image share one upload. A client with
        ``reuse_uploads=False`` always uploads.

        Args:
            image: As for ``create``.
            timeout: Seconds for an attempt of the request; the client's timeout by default.

        Returns:
            The upload; its URL is public and works for at least another hour.

        Raises:
            ImageError: The image cannot be sent; nothing was sent.
            APIError: The upload failed after all retries; uploads are free and safe to repeat.

        Cancellation leaves nothing behind, or an unused upload; a concurrent call for the image uploads it.
        """
        return self._portal.call(self._wrapped.get_or_create, image, timeout=timeout)


class Apimart:
    """A client of the APIMart image services.

    The first request opens the first connection. Use the client as a context manager, or call
    ``close``.

    Args:
        api_key: The key, or a function, async or not, that returns the key of one account for each request;
            ``APIMART_API_KEY`` by default.
        base_url: Base URL; ``APIMART_BASE_URL``, or else ``https://api.apimart.ai``, by default. Several, as
            a list or separated by commas, are addresses of the same service with the same key, preferred
            first: the next one takes over when nothing was sent to the one before. The key is sent to these
            origins only.
        timeout: Timeouts of one HTTP request as a ``Timeout``, or the total in seconds; ``Timeout()`` by
            default.
        max_retries: Maximum number of retries where sending again is safe, 0 or more; default 2. Requests
            that the service refuses for now (429) do not count: ``Retry.max_elapsed`` ends these; 0 turns all
            retries off.
        retry: Delays between the attempts; ``Retry()`` by default.
        limits: Maximum connections, concurrent requests and sizes; ``Limits()`` by default.
        poll: Schedule of the polls of tasks; ``Poll()`` by default.
        media: Changes to pictures before they are sent; by default ``Media()``, which converts pictures that
            the service refuses, and removes private metadata.
        check: ``"schema"`` fetches the schema of a model before the first paid request for it, within 5 s,
            and refuses requests that the model does not take; without a schema, requests are sent unchecked.
            ``"off"`` leaves the decision to the service. ``APIMART_CHECK``, or else ``"schema"``, by default.
        reuse_uploads: Whether edits, generations and batches upload an image once, as long as its URL works;
            default True. The path of a folder also keeps the uploads there, for other clients and later runs:
            at most 72 h and 4096 of them, for your user alone.
        proxy: URL of an HTTP proxy; by default the proxy of the environment, which is never used for this
            machine.
        ssl: TLS context; ``False`` turns certificate checks off.
        default_headers: Headers of every request to the API; never sent to a file host. An ``Authorization``
            among them replaces the key.
        session: Your aiohttp session, for its middlewares or traces. The client sends all requests through
            it and never closes it. If it sends an ``Authorization`` or cookies with every request, files are
            fetched without it.
        event_hooks: Functions that are called before and after each HTTP request, as an ``EventHooks`` or a
            sequence of these; none by default.
        allow_http: Whether the key may be sent unencrypted to an ``http://`` base URL on another machine, or
            through a proxy there.

    Raises:
        InvalidArgumentError: There is no key, or an argument is invalid.

    Attributes:
        uploads: Upload images to the file host of the service.
        edits: Edit images.
        generations: Generate images from a prompt and reference images.
        tasks: Fetch, wait for and watch tasks.
        images: Save, read and stream result images.
        account: Fetch the balance and the models.
        models: Fetch the models, their schemas and their documentation.
    """

    uploads: Uploads
    edits: Edits
    generations: Generations
    tasks: Tasks
    images: Images
    account: Account
    models: Models

    def __init__(
        self,
        api_key: config.ApiKey | None = None,
        *,
        base_url: str | Sequence[str] | None = None,
        timeout: config.Timeout | float | None = None,
        max_retries: int = 2,
        retry: config.Retry | None = None,
        limits: config.Limits | None = None,
        poll: config.Poll | None = None,
        media: config.Media | None = None,
        check: config.Check | None = None,
        reuse_uploads: bool | str | os.PathLike[str] = True,
        proxy: str | Secret | None = None,
        ssl: SSLContext | bool | None = None,
        default_headers: Mapping[str, str] | None = None,
        session: aiohttp.ClientSession | None = None,
        event_hooks: EventHooks | Sequence[EventHooks] | None = None,
        allow_http: bool = False,
    ) -> None:
        api_key = hide(api_key)
        proxy = hide(proxy)
        wrapped = AsyncApimart(
            api_key,
            base_url=base_url,
            timeout=timeout,
            max_retries=max_retries,
            retry=retry,
            limits=limits,
            poll=poll,
            media=media,
            check=check,
            reuse_uploads=reuse_uploads,
            proxy=proxy,
            ssl=ssl,
            default_headers=default_headers,
            session=session,
            event_hooks=event_hooks,
            allow_http=allow_http,
        )
        self._attach(wrapped, Portal(wrapped.close))

    def _attach(self, wrapped: AsyncApimart, portal: Portal) -> Self:
        self._wrapped = wrapped
        self._portal = portal
        self.uploads = Uploads(wrapped.uploads, portal)
        self.edits = Edits(wrapped.edits, portal)
        self.generations = Generations(wrapped.generations, portal)
        self.tasks = Tasks(wrapped.tasks, portal)
        self.images = Images(wrapped.images, portal)
        self.account = Account(wrapped.account, portal)
        self.models = Models(wrapped.models, portal)
        return self

    def with_options(
        self,
        *,
        api_key: config.ApiKey | None = None,
        timeout: config.Timeout | float | None = None,
        max_retries: int | None = None,
        retry: config.Retry | None = None,
        poll: config.Poll | None = None,
        media: config.Media | None = None,
        check: config.Check | None = None,
        default_headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Return a copy of the client with other options.

        The copy shares the connections, the rate limit and the uploads; closing either client closes both.
        Arguments that are ``None`` keep the options of this client.

        Args:
            api_key: Another key for the same service.
            timeout: Timeouts of one HTTP request as a ``Timeout``, or the total in seconds.
            max_retries: Maximum number of retries where sending again is safe, 0 or more.
            retry: Delays between the attempts.
            poll: Schedule of the polls of tasks.
            media: Changes to pictures before they are sent.
            check: Whether paid requests are checked against the schema of their model.
            default_headers: Headers that replace the headers of this client.

        Raises:
            InvalidArgumentError: An argument is invalid.
        """
        api_key = hide(api_key)
        wrapped = self._wrapped.with_options(
            api_key=api_key,
            timeout=timeout,
            max_retries=max_retries,
            retry=retry,
            poll=poll,
            media=media,
            check=check,
            default_headers=default_headers,
        )
        return object.__new__(type(self))._attach(wrapped, self._portal)

    def quote(self, model: str = DEFAULT_MODEL, *, n: int = 1, timeout: float | None = None) -> Quote | None:
        """Return the expected cost of a paid request, before it is sent. Free.

        The client and its copies keep the prices of the service for an hour.

        Args:
            model: Name of the model; by default that of ``edits.create``.
            n: Number of images, 1 or more; default 1.
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            The price of an image and the cost of all; ``None`` if the catalogue of the service does not tell
            a price per image for this model, or not in USD.

        Raises:
            InvalidArgumentError: The name is empty, or ``n`` is less than 1.
            APIError: A request failed after all retries.

        Cancellation leaves nothing behind.
        """
        return self._portal.call(self._wrapped.quote, model, n=n, timeout=timeout)

    @property
    def base_url(self) -> str:
        """Return the base URL of the service: of several, the preferred one."""
        return self._wrapped.base_url

    @property
    def base_urls(self) -> tuple[str, ...]:
        """Return every base URL that requests may go to, preferred first."""
        return self._wrapped.base_urls

    @property
    def event_hooks(self) -> Sequence[EventHooks]:
        """Return the event hooks that were given to the client.

        .. versionadded:: 0.1
        """
        return self._wrapped.event_hooks

    def rate_limit_stats(self) -> dict[str, Any]:
        """Return the limits of the service, as far as they are known: plain data that JSON can hold.

        ``rate`` is in requests per second and ``concurrency`` in concurrent requests, both ``None`` while no
        limit is known; ``noise`` is the share of requests that are refused for other reasons. Batches keep
        them in their journal, as they keep ``tasks.duration_stats``.
        """
        return self._wrapped.rate_limit_stats()

    def load_rate_limit_stats(self, data: Mapping[str, Any]) -> None:
        """Load the value of ``rate_limit_stats``, so that the first requests are near the limit.

        Args:
            data: The value. Malformed data, another version, and data for a client that has received an
                answer or is not adaptive are ignored.
        """
        return self._wrapped.load_rate_limit_stats(data)

    def close(self) -> None:
        """Close the connections, but not your ``session``. A second call does nothing.

        Calls under way end with an error. Cancellation waits until the connections are closed.
        """
        self._portal.close()

    def __enter__(self) -> Self:
        self._portal.call(self._wrapped.__aenter__)
        return self

    def __exit__(self, *_: object) -> None:
        self._portal.close()

    def __repr__(self) -> str:
        wrapped = getattr(self, "_wrapped", None)
        shown = f"Async{type(self).__name__}(…)" if wrapped is None else repr(wrapped)
        return shown.removeprefix("Async")

    def __reduce__(self) -> tuple[object, ...]:
        return self._wrapped.__reduce__()


class AppleRouter:
    """A client of AppleRouter, or of any service with OpenAI's edits and generations of images.

    The first request opens the first connection. Use the client as a context manager, or call
    ``close``.

    Args:
        api_key: The key, or a function, async or not, that returns the key of one account for each request;
            ``APPLEROUTER_API_KEY`` by default.
        base_url: Base URL; ``APPLEROUTER_BASE_URL``, or else ``https://api.applerouter.ai``, by default.
            Several, as a list or separated by commas, are addresses of the same service with the same key,
            preferred first: the next one takes over when nothing was sent to the one before. The key is sent
            to these origins only.
        timeout: Timeouts of one HTTP request as a ``Timeout``, or the total in seconds, which may pass
            without a byte of the answer; by default 300 s without a byte and 600 s in total. A service that
            answers with the images is silent until they are done: a ``read`` that is too short loses paid
            images.
        max_retries: Maximum number of retries where sending again is safe, 0 or more; default 2. Requests
            that the service refuses for now (429) do not count: ``Retry.max_elapsed`` ends these; 0 turns all
            retries off.
        retry: Delays between the attempts; ``Retry()`` by default.
        limits: Maximum connections, concurrent requests and sizes; ``Limits()`` by default.
        media: Changes to pictures before they are sent; by default ``Media()``, which converts pictures that
            the service refuses, and removes private metadata.
        proxy: URL of an HTTP proxy; by default the proxy of the environment, which is never used for this
            machine.
        ssl: TLS context; ``False`` turns certificate checks off.
        default_headers: Headers of every request to the API; never sent to a file host. An ``Authorization``
            among them replaces the key.
        session: Your aiohttp session, for its middlewares or traces. The client sends all requests through
            it and never closes it. If it sends an ``Authorization`` or cookies with every request, files are
            fetched without it.
        event_hooks: Functions that are called before and after each HTTP request, as an ``EventHooks`` or a
            sequence of these; none by default.
        allow_http: Whether the key may be sent unencrypted to an ``http://`` base URL on another machine, or
            through a proxy there.

    Raises:
        InvalidArgumentError: There is no key, or an argument is invalid.

    Attributes:
        edits: Edit images.
        generations: Make new images.
        images: Save, read and stream result images.
    """

    edits: AppleRouterEdits
    generations: AppleRouterGenerations
    images: Images

    def __init__(
        self,
        api_key: config.ApiKey | None = None,
        *,
        base_url: str | Sequence[str] | None = None,
        timeout: config.Timeout | float | None = None,
        max_retries: int = 2,
        retry: config.Retry | None = None,
        limits: config.Limits | None = None,
        media: config.Media | None = None,
        proxy: str | Secret | None = None,
        ssl: SSLContext | bool | None = None,
        default_headers: Mapping[str, str] | None = None,
        session: aiohttp.ClientSession | None = None,
        event_hooks: EventHooks | Sequence[EventHooks] | None = None,
        allow_http: bool = False,
    ) -> None:
        api_key = hide(api_key)
        proxy = hide(proxy)
        wrapped = AsyncAppleRouter(
            api_key,
            base_url=base_url,
            timeout=timeout,
            max_retries=max_retries,
            retry=retry,
            limits=limits,
            media=media,
            proxy=proxy,
            ssl=ssl,
            default_headers=default_headers,
            session=session,
            event_hooks=event_hooks,
            allow_http=allow_http,
        )
        self._attach(wrapped, Portal(wrapped.close))

    def _attach(self, wrapped: AsyncAppleRouter, portal: Portal) -> Self:
        self._wrapped = wrapped
        self._portal = portal
        self.edits = AppleRouterEdits(wrapped.edits, portal)
        self.generations = AppleRouterGenerations(wrapped.generations, portal)
        self.images = Images(wrapped.images, portal)
        return self

    def with_options(
        self,
        *,
        api_key: config.ApiKey | None = None,
        timeout: config.Timeout | float | None = None,
        max_retries: int | None = None,
        retry: config.Retry | None = None,
        media: config.Media | None = None,
        default_headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Return a copy of the client with other options.

        The copy shares the connections and the rate limit; closing either client closes both. Arguments
        that are ``None`` keep the options of this client.

        Args:
            api_key: Another key for the same service.
            timeout: Timeouts of one HTTP request as a ``Timeout``, or the total in seconds, which may pass
                without a byte of the answer.
            max_retries: Maximum number of retries where sending again is safe, 0 or more.
            retry: Delays between the attempts.
            media: Changes to pictures before they are sent.
            default_headers: Headers that replace the headers of this client.

        Raises:
            InvalidArgumentError: An argument is invalid.
        """
        api_key = hide(api_key)
        wrapped = self._wrapped.with_options(
            api_key=api_key,
            timeout=timeout,
            max_retries=max_retries,
            retry=retry,
            media=media,
            default_headers=default_headers,
        )
        return object.__new__(type(self))._attach(wrapped, self._portal)

    @property
    def base_url(self) -> str:
        """Return the base URL of the service: of several, the preferred one."""
        return self._wrapped.base_url

    @property
    def base_urls(self) -> tuple[str, ...]:
        """Return every base URL that requests may go to, preferred first."""
        return self._wrapped.base_urls

    @property
    def event_hooks(self) -> Sequence[EventHooks]:
        """Return the event hooks that were given to the client.

        .. versionadded:: 0.1
        """
        return self._wrapped.event_hooks

    def rate_limit_stats(self) -> dict[str, Any]:
        """Return the limits of the service, as far as they are known: plain data that JSON can hold.

        ``rate`` is in requests per second and ``concurrency`` in concurrent requests, both ``None`` while no
        limit is known; ``noise`` is the share of requests that are refused for other reasons. Batches keep
        them in their journal, as they keep ``tasks.duration_stats``.
        """
        return self._wrapped.rate_limit_stats()

    def load_rate_limit_stats(self, data: Mapping[str, Any]) -> None:
        """Load the value of ``rate_limit_stats``, so that the first requests are near the limit.

        Args:
            data: The value. Malformed data, another version, and data for a client that has received an
                answer or is not adaptive are ignored.
        """
        return self._wrapped.load_rate_limit_stats(data)

    def close(self) -> None:
        """Close the connections, but not your ``session``. A second call does nothing.

        Calls under way end with an error. Cancellation waits until the connections are closed.
        """
        self._portal.close()

    def __enter__(self) -> Self:
        self._portal.call(self._wrapped.__aenter__)
        return self

    def __exit__(self, *_: object) -> None:
        self._portal.close()

    def __repr__(self) -> str:
        wrapped = getattr(self, "_wrapped", None)
        shown = f"Async{type(self).__name__}(…)" if wrapped is None else repr(wrapped)
        return shown.removeprefix("Async")

    def __reduce__(self) -> tuple[object, ...]:
        return self._wrapped.__reduce__()


def run_many(
    client: Apimart | AppleRouter,
    jobs: Iterable[Job],
    *,
    output: str | os.PathLike[str],
    journal: Journal | str | os.PathLike[str] | None = None,
    max_in_flight: int = 256,
    max_uploads: int = 32,
    max_downloads: int = 32,
    max_cost: float | None = None,
    in_doubt: Literal["report", "collect", "resubmit"] = "report",
    retry_failed: bool = False,
    retry_missing: bool = False,
    timeout: float | None = None,
    check: Check | None = None,
    max_retry_after: float = 3600.0,
    on_progress: Callable[[Progress], object] | None = None,
    shutdown: Shutdown | None = None,
) -> AbstractContextManager[Iterator[Outcome]]:
    """Run many jobs of any operation, each paid at most once, and save the results. Billable.

    ``edit_many`` is another name of it.

    Every step is written to a journal before the next one, so that the batch can be killed at any moment and
    run again: saved jobs are skipped, jobs that are paid for are finished, and the rest is done. A job that
    fails is an outcome, not the end of the batch.

    Args:
        client: Client of the service, open for as long as the batch runs.
        jobs: Jobs, taken lazily: memory does not grow with their number. A plain generator runs in worker
            threads.
        output: Folder for the images, for ``results.jsonl``, which lists every job once the batch has ended,
            and by default for the journal, in ``.batch``. It is created when it is missing. Or a URL of
            object storage, ``s3://bucket/folder``, ``gs://…`` or ``az://…``, as for ``images.save``;
            ``journal`` is then needed.
        journal: Path of a journal elsewhere on this machine; ``postgresql://…`` for a journal that several
            processes and machines share; ``":memory:"`` for a journal that does not survive the batch; or an
            object with the methods of ``Journal``.
        max_in_flight: Maximum number of jobs between their submit and the end of their task, 1 or more;
            default 256.
        max_uploads: Maximum number of concurrent uploads, 1 or more; default 32. An image is uploaded once
            for all jobs and runs, and again before its 72 h are over.
        max_downloads: Maximum number of jobs whose images are downloaded at the same time, 1 or more; default
            32.
        max_cost: USD that the batch may cost, more than 0, over all runs with its journal and including jobs
            in flight; with a journal in PostgreSQL, of all processes together. No limit by default. The price
            of a model is learnt from its tasks: until the first has ended, one runs at a time, in each
            process, at the price that the service quotes.
        in_doubt: How to treat jobs whose paid request was cut off before its answer: ``"report"``, the
            default, reports them. ``"collect"`` sends those again under the same idempotency key whose model
            promises to execute a key once, while the service remembers it, and reports the others.
            ``"resubmit"`` sends all of them again; a service that does not honour the key then bills them
            twice.
        retry_failed: Whether to submit jobs again that the service refused, or whose task failed, in an
            earlier run; default False.
        retry_missing: Whether to submit jobs of an earlier run again whose task the service does not know,
            which may pay for them twice: look at the account first. Each task is polled before, for at least
            a minute. By default such a job is an unfinished outcome, and the next run polls its task again.
        timeout: Seconds to wait for each task; ``Poll.timeout`` of the client (600) by default. A task that
            takes longer is an unfinished outcome, which the next run continues.
        check: Whether paid requests are checked against the schema of their model, ``"schema"`` or ``"off"``;
            ``check`` of the client by default. A job that its model does not take fails, and is free.
        max_retry_after: Longest ``Retry-After``, in seconds, that the batch waits after a 429; default
            3600. A longer one ends the batch. After a 429 without ``Retry-After``, the batch waits for any
            length of time.
        on_progress: Called with a ``Progress`` five times a second, and at the end.
        shutdown: Ends the batch early: once it is requested, no further jobs are started, those in flight are
            finished, and the iterator ends.

    Returns:
        A context manager whose value is an iterator of outcomes, in the order jobs end.

    Raises:
        JournalInUseError: On entering, another batch is using the journal.
        JournalError: On entering, the journal is damaged, of a newer version or cannot be written; nothing
            was sent. From the iterator, it cannot be written any more.
        AuthenticationError: From the iterator, the key is not accepted.
        InsufficientBalanceError: From the iterator, the balance is used up.
        RateLimitError: From the iterator, a quota is used up, or ``Retry-After`` is above
            ``max_retry_after``.
        BudgetExceededError: From the iterator, the next job could pass ``max_cost``.
        APIConnectionError: From the iterator, the service cannot be reached any more.
        DownloadError: On entering, or from the iterator, the output folder cannot be written, or the bucket
            is missing or not open to the credentials; on entering, nothing was sent.
        InvalidArgumentError: An argument is out of range, or of another type.

    The errors from the iterator come after everything that was in flight has ended, and say how to continue.
    An error of ``jobs`` itself comes after all jobs before it have ended. Leaving early and cancellation let
    paid requests in flight get their answer within 5 seconds and leave everything else to the next run.
    """
    return portal_of(client).open(
        async_run_many,
        client._wrapped,
        jobs,
        output=output,
        journal=journal,
        max_in_flight=max_in_flight,
        max_uploads=max_uploads,
        max_downloads=max_downloads,
        max_cost=max_cost,
        in_doubt=in_doubt,
        retry_failed=retry_failed,
        retry_missing=retry_missing,
        timeout=timeout,
        check=check,
        max_retry_after=max_retry_after,
        on_progress=on_progress,
        shutdown=shutdown,
    )


edit_many = run_many


def estimate(
    client: Apimart,
    jobs: Iterable[Job],
    *,
    output: str | os.PathLike[str] | None = None,
    journal: str | os.PathLike[str] | None = None,
) -> Estimate:
    """Estimate the cost of jobs before ``run_many`` runs them. Free.

    The images are read, because equal jobs are paid once, and nothing but a request for prices is sent. A
    price is the highest that the journal has, or else that of the catalogue of the service, as ``quote``
    returns it, or else that of its documentation. ``apimart batch --check`` prints the same estimate.

    Args:
        client: Fetches the prices.
        jobs: Jobs, as for ``run_many``; memory grows by about 150 bytes per job.
        output: Folder of the batch: jobs that its journal has and the next run does not submit cost nothing.
        journal: Path of its journal, when that is elsewhere, or its URL ``postgresql://…``.

    Returns:
        The number of jobs and images, and their cost in all and by model.

    Raises:
        JournalError: The journal is damaged or of a newer version, or cannot be reached.
        APIError: The request for prices failed after all retries.
        InvalidArgumentError: An argument has another type, or the output is in object storage and no journal
            is named.

    Cancellation leaves nothing behind.
    """
    return portal_of(client).call(async_estimate, client._wrapped, jobs, output=output, journal=journal)
