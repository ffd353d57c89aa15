"""requests: as the service's documentation uses it, and with a session for all threads."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import requests
from requests.adapters import HTTPAdapter

from benchmarks.clients import KEY, MODEL, PROMPT

if TYPE_CHECKING:
    from pathlib import Path

_HEADERS: Final = {"Authorization": f"Bearer {KEY}"}
_PIECE_BYTES: Final = 256 * 1024


class AsDocumented:
    """A function of the module for each request: every one opens a connection.

    Args:
        base_url: Of the service.
        at_once: How many threads there are.
    """

    def __init__(self, base_url: str, at_once: int) -> None:
        self._base_url = base_url
        self._at_once = at_once
        self.send: Any = requests

    def __enter__(self) -> object:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def upload(self, path: Path) -> str:
        """Send the open file."""
        with path.open("rb") as file:
            answer = self.send.post(
                f"{self._base_url}/v1/uploads/images",
                headers=_HEADERS,
                files={"file": (path.name, file, "image/jpeg")},
                timeout=60,
            )
        answer.raise_for_status()
        return str(answer.json()["url"])

    def submit(self, uploaded: str) -> str:
        """Submit an edit."""
        edit = {"model": MODEL, "prompt": PROMPT, "image_urls": [uploaded], "n": 1}
        url = f"{self._base_url}/v1/images/edits"
        answer = self.send.post(url, headers=_HEADERS, json=edit, timeout=60)
        answer.raise_for_status()
        return str(answer.json()["data"][0]["task_id"])

    def poll(self, task_id: str) -> str | None:
        """Look at a task."""
        url = f"{self._base_url}/v1/tasks/{task_id}"
        answer = self.send.get(url, headers=_HEADERS, params={"language": "en"}, timeout=60)
        answer.raise_for_status()
        task = answer.json()["data"]
        return task["result"]["images"][0]["url"][0] if task["status"] == "completed" else None

    def download(self, result: str, directory: Path) -> None:
        """Write large pieces as they come."""
        with (directory / f"{secrets.token_hex(6)}.jpg").open("wb") as file:
            answer = self.send.get(result, timeout=60, stream=True)
            answer.raise_for_status()
            for piece in answer.iter_content(_PIECE_BYTES):
                file.write(piece)

    def result(self, url: str, number: int) -> str:  # noqa: ARG002 the same for all
        """Return the address."""
        return url


class InThreads(AsDocumented):
    """One session that keeps connections."""

    def __enter__(self) -> object:
        self.send = requests.Session()
        self.send.mount("http://", HTTPAdapter(pool_connections=4, pool_maxsize=self._at_once))
        return self

    def __exit__(self, *_: object) -> None:
        self.send.close()
