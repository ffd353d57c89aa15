"""The arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypeAlias

from cyclopts import Parameter

from apimart_async.cli.exits import UsageError

DEFAULT_DIRECTORY: Final = Path("edited")

Images: TypeAlias = Annotated[
    list[str], Parameter(negative=(), help="Pictures: JPEG, PNG, WebP or GIF files of at most 20 MiB.")
]
TaskIds: TypeAlias = Annotated[list[str], Parameter(name="IDS", negative=(), help="Ids of tasks.")]
Output: TypeAlias = Annotated[
    Path, Parameter(name=("--output", "-o"), help="Directory for the results; made when it is missing.")
]
Json: TypeAlias = Annotated[
    bool,
    Parameter(
        name="--json",
        negative=(),
        show_default=False,
        help="Write one JSON object a line to stdout, for each argument in its order.",
    ),
]
Local: TypeAlias = Annotated[
    bool,
    Parameter(
        name="--local",
        negative=(),
        show_default=False,
        help="Try it without a key: an emulator on this machine does the work, for play money.",
    ),
]
Inline: TypeAlias = Annotated[
    bool,
    Parameter(
        name="--inline",
        negative=(),
        show_default=False,
        help="Send pictures inside the request instead of uploading them.",
    ),
]
BaseUrl: TypeAlias = Annotated[
    str | None,
    Parameter(name="--base-url", help="The service; APIMART_BASE_URL or https://api.apimart.ai by default."),
]
Timeout: TypeAlias = Annotated[
    float | None, Parameter(name="--timeout", help="Seconds to wait for each task; 600 by default.")
]


def check_timeout(timeout: float | None) -> None:
    """Check the option.

    Raises:
        UsageError: It is not more than 0.
    """
    if timeout is not None and not timeout > 0:
        raise UsageError(f"--timeout must be more than 0 seconds, not {timeout:g}.")
