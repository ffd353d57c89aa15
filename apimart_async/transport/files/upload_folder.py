"""A folder that keeps uploads for other clients and later runs, one small file each, for its user alone.

A file of another user, a link, and a file that cannot be read as an upload count as no upload: an upload of a
stranger would be edited in the place of the image.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from apimart_async.errors import APIResponseValidationError
from apimart_async.models import Upload
from apimart_async.transport import json
from apimart_async.transport.concurrency import file_threads
from apimart_async.transport.files.private import Replacement

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_FILES: Final = 4096
_PUTS_PER_CLEANING: Final = 256
_LIFETIME_SECONDS: Final = 72 * 3600
_MOST_BYTES: Final = 64 * 1024
_OURS: Final = re.compile(r"[0-9a-f]{64}\.json|\.[0-9a-f]{64}\.json-[0-9a-f]{16}\.part")
_FOR_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
# O_NONBLOCK: a pipe may be in the place of the file.
_READ: Final[int] = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")
)

_log: Final = logging.getLogger("apimart_async.transport")


class UploadFolder:
    """Keeps uploads in a folder: up to 4096, for up to 72 h; other files in it stay as they are.

    Args:
        folder: Created when it is missing, for its user alone.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._puts = 0

    async def get_upload(self, key: str) -> Upload | None:
        """Return an upload that was kept, expired or not."""
        return await file_threads.run(self._read, key)

    async def put_upload(self, key: str, upload: Upload) -> None:
        """Keep an upload in the place of another; a folder that cannot be written is a warning in the log."""
        try:
            await file_threads.run(self._write, key, upload)
        except OSError as error:
            _log.warning("The upload is not kept in %s: %s.", self._folder, error.strerror)

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.json"

    def _read(self, key: str) -> Upload | None:
        with suppress(OSError, APIResponseValidationError):
            descriptor = os.open(self._path(key), _READ)
            try:
                content = os.read(descriptor, _MOST_BYTES) if _is_own(os.fstat(descriptor)) else b"null"
            finally:
                os.close(descriptor)
            found = _fields(json.loads(content))
            if found.get("key") == key:
                return json.structure(_fields(found.get("upload")), Upload, found)
        return None

    def _write(self, key: str, upload: Upload) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._puts % _PUTS_PER_CLEANING == 0:
            self._clean()
        self._puts += 1
        content = json.dumps({"key": key, "upload": json.converter.unstructure(upload)}).decode()
        replacement = Replacement.begin(self._path(key))
        try:
            replacement.write([content])
            replacement.finish()
        except OSError:
            replacement.discard()
            raise

    def _clean(self) -> None:
        """Remove the files of uploads that have expired, and the oldest above the limit."""
        by_age = sorted(self._files(), reverse=True)
        oldest = time.time() - _LIFETIME_SECONDS
        for number, (modified, path) in enumerate(by_age):
            if modified < oldest or number >= _MOST_FILES:
                with suppress(OSError):
                    path.unlink()

    def _files(self) -> Iterator[tuple[float, Path]]:
        for path in self._folder.iterdir():
            if _OURS.fullmatch(path.name):
                with suppress(OSError):
                    yield path.lstat().st_mtime, path


def _fields(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _is_own(status: os.stat_result) -> bool:
    """Tell whether a file is a regular file that its user alone has written."""
    if not stat.S_ISREG(status.st_mode):
        return False
    has_owners = hasattr(os, "geteuid")  # not on Windows
    return not has_owners or (status.st_uid == os.geteuid() and not status.st_mode & _FOR_OTHERS)
