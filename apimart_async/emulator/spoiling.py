"""Spoiling an answer on its way: a request was carried out, and what the client gets of it is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio
from aiohttp import web

from .replies import json_response

if TYPE_CHECKING:
    from .faults import Fault, Kind

SPOILING: Final[frozenset[Kind]] = frozenset(
    (
        "truncated",
        "stalled",
        "slow",
        "close-after",
        "empty",
        "broken-json",
        "gigantic",
        "no-id",
        "wrong-bytes",
        "cut-image",
    )
)
"""The kinds of faults that `spoil` makes."""

_SENT_IN_PIECES: Final[frozenset[Kind]] = frozenset(("truncated", "stalled", "slow"))
_PIECES = 20
_BLOCK = 64 * 1024
_PAGE = b"<!DOCTYPE html>\n<html><body><h1>Not the image</h1></body></html>\n"


async def spoil(request: web.Request, fault: Fault, response: web.StreamResponse) -> web.StreamResponse:
    """Return, or send, a spoilt form of an answer.

    Args:
        request: The request; the answer to a HEAD has nothing to spoil.
        fault: One of the kinds in `SPOILING`.
        response: The proper answer.
    """
    body = response.body if isinstance(response, web.Response) else None
    if request.method == "HEAD" or not isinstance(body, bytes):
        return response
    if fault.kind == "close-after":
        await response.prepare(request)
        await response.write_eof()
        _close(request)
        return response
    if fault.kind == "gigantic":
        return await _gigantic(request, response, fault.size)
    if fault.kind in _SENT_IN_PIECES:
        pieces, pause = _pieces(fault, body)
        return await _in_pieces(request, response, pieces, len(body), pause)
    return _replaced(fault.kind, response, body)


def _replaced(kind: Kind, response: web.StreamResponse, body: bytes) -> web.Response:
    """Return another body under the same status and type."""
    if kind == "no-id":
        return json_response({"code": 200, "data": [{"status": "submitted"}]})
    half = body[: len(body) // 2]
    content = {"empty": b"", "wrong-bytes": _PAGE}.get(kind, half)
    return web.Response(body=content, status=response.status, content_type=response.content_type)


def _pieces(fault: Fault, body: bytes) -> tuple[list[bytes], float]:
    """Return the pieces that are sent of a body, and the seconds between them."""
    half = body[: len(body) // 2]
    if fault.kind == "truncated":
        return [half], 0.0
    if fault.kind == "stalled":
        return [half, b""], fault.seconds
    size = max(1, -(-len(body) // _PIECES))
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return pieces, fault.seconds / max(1, len(pieces))


async def _in_pieces(
    request: web.Request, response: web.StreamResponse, pieces: list[bytes], length: int, pause: float
) -> web.StreamResponse:
    """Send pieces with a pause before each but the first; close the connection when they are not all."""
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    stream.content_length = length
    await stream.prepare(request)
    for index, piece in enumerate(pieces):
        if index:
            await anyio.sleep(pause)
        await stream.write(piece)
    if sum(map(len, pieces)) < length:
        _close(request)
    return stream


async def _gigantic(request: web.Request, response: web.StreamResponse, size: int) -> web.StreamResponse:
    """Send valid JSON of a size that nobody should read, without saying how large it is."""
    stream = web.StreamResponse(status=response.status, headers={"Content-Type": "application/json"})
    await stream.prepare(request)
    await stream.write(b'{"code":200,"padding":"')
    for start in range(0, size, _BLOCK):
        await stream.write(b"x" * min(_BLOCK, size - start))
    await stream.write(b'"}')
    return stream


def _close(request: web.Request) -> None:
    """Close a connection after what was written, without a word in the headers."""
    if request.transport is not None:
        request.transport.close()
