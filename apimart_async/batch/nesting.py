"""The depth of values that are written as JSON, which Python neither writes nor reads at any depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

MOST_LEVELS: Final = 100
"""Maximum depth of nested lists and mappings in the options and the extra data of a job."""


def is_too_deep(value: object) -> bool:
    """Tell whether a value has more levels than ``MOST_LEVELS``; it may contain itself."""
    level = [value]
    for _ in range(MOST_LEVELS + 1):
        inside = (child for each in level for child in _children(each))
        # By identity: a list that holds another twice would double at each level.
        level = list({id(child): child for child in inside}.values())
        if not level:
            return False
    return True


def _children(value: object) -> list[object]:
    if isinstance(value, Mapping):
        return list(cast("Mapping[object, object]", value).values())
    return list(cast("list[object]", value)) if isinstance(value, (list, tuple)) else []
