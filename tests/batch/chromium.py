"""A headless Chromium, controlled through its DevTools protocol without a driver."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import anyio
import attrs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS: Final = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def executable() -> str | None:
    """Return the path of Chromium, if it is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@attrs.define
class Tab:
    """A tab of the browser.

    Attributes:
        events: Events received from the tab.
    """

    _socket: aiohttp.ClientWebSocketResponse
    _number: int = 0
    events: list[dict[str, Any]] = attrs.field(factory=list[dict[str, Any]])

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message: dict[str, Any] = await self._socket.receive_json()
            if message.get("id") == self._number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    async def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript, wait for it if it is a promise, and return its value."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def press(self, key: str) -> None:
        """Press a key."""
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Escape": 27, "Enter": 13}
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes[key],
                text="\r" if key == "Enter" and kind == "keyDown" else "",
            )

    async def open(self, path: Path, address: str | None = None) -> None:
        """Open a file, or its URL, and wait until it and its images are loaded."""
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=address or path.absolute().as_uri())
        await self.evaluate(
            "new Promise((done) => { const look = () => document.readyState === 'complete' && "
            "location.protocol === 'file:' && [...document.querySelectorAll('#grid img:not([hidden])')]"
            ".slice(0, 4).every((image) => image.complete) ? done(true) : setTimeout(look, 20); look(); })"
        )

    async def screenshot(self, path: Path) -> bytes:
        """Save a screenshot."""
        shot = base64.b64decode((await self.call("Page.captureScreenshot"))["data"])
        await anyio.Path(path).write_bytes(shot)
        return shot

    def requested(self) -> list[str]:
        """Return the URLs of all requests, those of files included."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[dict[str, Any]]:
        """Return the errors of scripts, of the content security policy and of the browser."""
        kinds = {"Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening"}
        return [event for event in self.events if event["method"] in kinds]


@asynccontextmanager
async def tab(profile: Path) -> AsyncIterator[Tab]:
    """Start a browser with a profile of its own, in an empty directory, and open a tab."""
    program = executable()
    assert program
    # As root, as in many containers, it does not run with its sandbox.
    alone = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    process = await anyio.open_process(
        [program, *ARGUMENTS, *alone, f"--user-data-dir={profile}", "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port = await _port(profile / "DevToolsActivePort")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                pages = [page for page in await answer.json() if page["type"] == "page"]
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                opened = Tab(socket)
                yield opened
                await opened.call("Browser.close")
        with anyio.move_on_after(10):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
        await process.aclose()


async def _port(file: Path) -> int:
    """Wait for the file that a browser writes when it listens."""
    told = anyio.Path(file)
    while not (await told.exists() and "\n" in await told.read_text()):  # noqa: ASYNC110 nothing tells
        await anyio.sleep(0.05)
    return int((await told.read_text()).splitlines()[0])
