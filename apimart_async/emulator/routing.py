"""The route of a request, by its method and path."""

from __future__ import annotations

from typing import Final, Literal

Route = Literal[
    "uploads",
    "edits",
    "generations",
    "applerouter",
    "tasks",
    "tasks/batch",
    "account",
    "catalogue",
    "files",
    "elsewhere",
    "controls",
    "unknown",
]

_EXACT: Final[dict[tuple[str, str], Route]] = {
    ("POST", "/v1/uploads/images"): "uploads",
    ("POST", "/v1/images/generations"): "generations",
    ("POST", "/v1/images/generations/"): "applerouter",
    ("POST", "/v1/tasks/batch"): "tasks/batch",
    ("GET", "/v1/balance"): "account",
    ("GET", "/v1/user/balance"): "account",
    ("GET", "/v1/usage"): "account",
    ("GET", "/v1/models"): "account",
    ("GET", "/v1/model-schema"): "catalogue",
    ("GET", "/v1/model-docs"): "catalogue",
    ("GET", "/api/pricing/model"): "catalogue",
    ("GET", "/api/marketplace/models"): "catalogue",
}
ROUTER_PATH: Final = "/applerouter"
"""The prefix under which every path is AppleRouter's."""

_EDITS = {"/v1/images/edits", "/v1/images/edits/"}
_PREFIXES: Final[dict[str, Route]] = {
    f"{ROUTER_PATH}/": "applerouter",
    "/files/": "files",
    "/emulator/": "controls",
}
_TASKS = ("/v1/tasks/", "/v1/images/generations/")


def route_of(method: str, path: str, content_type: str) -> Route:
    """Return the route of a request.

    Args:
        method: The HTTP method.
        path: The path, without the query.
        content_type: Type of the body; on the edits path, multipart is AppleRouter's and the rest APIMart's.
    """
    if (exact := _EXACT.get((method, path))) is not None:
        return exact
    if method == "POST" and path in _EDITS:
        return "applerouter" if content_type.startswith("multipart/") else "edits"
    if method == "GET" and path.startswith(_TASKS):
        return "tasks"
    if method == "GET" and path.startswith("/v1/models/") and path.endswith("/schema"):
        return "catalogue"
    for prefix, route in _PREFIXES.items():
        if path.startswith(prefix):
            return route
    return "unknown"
