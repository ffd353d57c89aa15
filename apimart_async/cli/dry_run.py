"""A dry run of ``edit`` and ``generate``: the request in words and its cost; no paid request is sent."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import attrs
from rich.filesize import decimal

from apimart_async.cli import connection, prices
from apimart_async.cli.display.output import dollars, printable, write_line
from apimart_async.cli.display.preflight import budget_line, is_enough
from apimart_async.cli.display.results import json_line
from apimart_async.cli.signals import Exit, UsageError
from apimart_async.transport.concurrency import for_each
from apimart_async.transport.media import forms, inputs, png

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from apimart_async.transport.media.forms import NamedFile


@attrs.frozen
class DryRun:
    """The requests that a command would send.

    Attributes:
        provider: The service.
        model: Name of the model; ``None`` if the request names none.
        images: Number of images that the service makes.
        output: Place of the results.
        base_url: The option.
        max_cost: The option.
        local: The option.
    """

    provider: connection.Provider
    model: str | None
    images: int
    output: Path
    base_url: Sequence[str] | None
    max_cost: float | None = None
    local: bool = attrs.field(kw_only=True)

    def show(self, pictures: Sequence[str | NamedFile], *, json: bool) -> Exit:
        """Print the plan.

        Args:
            pictures: The pictures and masks to be sent, which were checked.
            json: Whether to print one object.

        Returns:
            The exit code: ``SOME_FAILED`` if the budget is not enough.
        """
        sizes = anyio.run(for_each, _size, pictures)
        sent = [size for size in sizes if size is not None]
        addresses = len(sizes) - len(sent)
        cost = self._cost()
        fits = is_enough(self.max_cost, cost)
        if json:
            record = {
                "service": self.provider.lower(),
                "model": self.model,
                "pictures": len(sizes),
                "bytes": sum(sent),
                "images": self.images,
                "estimated_cost": cost,
                "max_cost": self.max_cost,
                "fits": fits,
                "output": str(self.output),
            }
            lines = [json_line(record)]
        else:
            lines = [
                f"Model: {printable(self.model or 'none is named')}",
                f"Pictures to send: {len(sent):,}, {decimal(sum(sent))}"
                + (f"; {addresses:,} by URL" * bool(addresses)),
                f"Images to come: {self.images:,}, into {printable(str(self.output))}",
                f"Estimated cost: {'not known' if cost is None else dollars(cost)}",
                *([] if self.max_cost is None else [budget_line(self.max_cost, fits, "command")]),
                "Nothing was sent: this is a dry run.",
            ]
        is_written = all(write_line(line) for line in lines)
        return Exit.ALL_DONE if is_written and fits is not False else Exit.SOME_FAILED

    def _cost(self) -> float | None:
        """Return the USD for all images, if the price is known; the service is asked where there is a key."""
        if self.provider == "APPLEROUTER" or self.model is None:  # this service reports no prices
            return None
        from apimart_async.batch.backends import DOCUMENTED_PRICES

        known = dict(DOCUMENTED_PRICES)
        if not self.local:
            with suppress(UsageError):  # no key
                known |= anyio.run(_quoted, connection.checked(self.base_url), self.model)
        price = known.get(self.model)
        return None if price is None else round(price * self.images, 6)


async def _quoted(service: connection.Connection, model: str) -> dict[str, float]:
    async with connection.connected(service) as client:
        return await prices.quoted(client, [model])


async def _size(picture: str | NamedFile) -> int | None:
    """Return the size of a picture; ``None`` for one at an address, which is not sent."""
    if forms.remote_url(picture) is not None:
        return None
    return (await inputs.open_media(picture, limit=png.SENT_LIMIT)).size
