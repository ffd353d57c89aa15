"""Pure: the shared moments at which the looks of many waits meet."""

from __future__ import annotations

import math
from typing import Final

_LOOSENESS: Final = 4.0


def meet(due: float, *, leeway: float, earliest: float, latest: float) -> float:
    """Move a look to the nearest shared moment.

    Shared moments are the multiples of a power of two of seconds, the largest that is no more than a quarter
    of the spacing: looks far apart meet on a coarse grid, close ones on a fine one, and every coarse grid is
    part of the finer ones. The move is an eighth of the spacing at most, and none on average.

    Args:
        due: When the look would be best, in seconds of a clock that all waits share.
        leeway: Seconds between looks about that time.
        earliest: Not before this moment.
        latest: Before this moment; where none is left, the look stays where it is.
    """
    if not leeway > 0 or math.isinf(due):
        return due
    step = 2.0 ** math.floor(math.log2(leeway / _LOOSENESS))
    moment = round(due / step) * step
    if moment < earliest:
        moment = math.ceil(earliest / step) * step
    return moment if moment < latest else due
