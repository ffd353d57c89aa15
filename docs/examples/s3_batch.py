"""Edit every photo of a bucket into another folder: python s3_batch.py s3://photos/in s3://photos/out."""

from __future__ import annotations

import asyncio
import sys
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from obstore.store import from_url

from apimart_async import AsyncApimart, Job, edit_many

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMPT = "Change the background to a starry sky"
PHOTOS = (".jpg", ".jpeg", ".png", ".webp")
INSIDE = (
    "The output folder must not be inside the source: its results would be edited, and paid for, "
    "in the next run."
)


def jobs(folder: str) -> Iterator[Job]:
    """Yield a job for each photo in the folder and its subfolders, as the pages of the listing come."""
    bucket, _, prefix = folder.removeprefix("s3://").partition("/")
    store = from_url(f"s3://{bucket}")
    for page in store.list(prefix):  # pyright: ignore[reportUnknownMemberType]
        for photo in page:
            key = PurePosixPath(photo["path"])
            if key.suffix.lower() in PHOTOS:
                yield Job(f"s3://{bucket}/{key}", PROMPT, name=key.stem)


async def main(source: str, output: str) -> None:
    """Run the batch, or continue it."""
    if f"{output.rstrip('/')}/".startswith(f"{source.rstrip('/')}/"):
        sys.exit(INSIDE)
    has_photos = False
    async with (
        AsyncApimart() as client,
        edit_many(client, jobs(source), output=output, journal="batch.sqlite3") as outcomes,
    ):
        async for outcome in outcomes:
            has_photos = True
            print(outcome.status, *outcome.paths, outcome.error or "")
    if not has_photos:
        sys.exit(f"no photos in {source}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
