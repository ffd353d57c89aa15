"""``apimart upload``: put pictures on the service's file host."""

from __future__ import annotations

from apimart_async.cli import connection, options
from apimart_async.cli.display import results
from apimart_async.cli.display.item import Item, items_for
from apimart_async.cli.display.messages import Wording
from apimart_async.cli.run import Run
from apimart_async.cli.signals import Exit, UsageError
from apimart_async.transport.media import forms

USAGE = "Usage: apimart upload IMAGES... [OPTIONS]"


def upload(
    images: options.Images,
    /,
    *,
    convert: options.Convert = "auto",
    keep_metadata: options.KeepMetadata = False,
    base_url: options.BaseUrl = None,
    json: options.Json = False,
) -> Exit:
    """Upload pictures, which is free, and print their addresses.

    The addresses come in the order of the arguments. They are public and work
    for 72 hours; any number of edits can use them.

    Try these:

      apimart upload portrait.png
      apimart upload photos/*.jpg --json
      apimart upload - < photo.jpg

    With --json, each line has: image, status (done, failed, interrupted or
    not_started), url, filename, content_type, bytes, expires_at, seconds, and
    error (type, message, status, code, request_id, task_id, idempotency_key) or
    null.
    """
    service = connection.checked(base_url, convert=convert, keep_metadata=keep_metadata)
    sources = options.distinct(images)
    remote = next((source for source in sources if forms.remote_url(source) is not None), None)
    if remote is not None:
        raise UsageError(f"{remote} is an address already: `apimart edit` takes it as it is.")
    pictures = options.opened(sources)
    options.check_images(pictures, convert=convert)

    async def work() -> None:
        async with connection.connected(service) as client:

            async def upload(item: Item) -> None:
                item.enter("uploading")
                item.upload = await client.uploads.create(pictures[sources.index(item.source)])

            await run.each(upload)

    render = results.lines(results.upload_record) if json else results.upload_url
    run = Run(items_for(sources), Wording("image", "uploaded"), render)
    return run.execute(work)
