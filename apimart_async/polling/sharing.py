"""What a client and its copies have in common when they wait for tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from apimart_async.polling.experience import Experience

if TYPE_CHECKING:
    from collections.abc import Callable

    from apimart_async.config import Settings
    from apimart_async.polling.lookout import Lookout


class Sharing:
    """One experience for all copies of a client, and one lookout for those whose requests look the same."""

    def __init__(self) -> None:
        self.experience: Experience = Experience()
        self._lookouts: WeakValueDictionary[tuple[object, ...], Lookout] = WeakValueDictionary()

    def lookout(self, settings: Settings, make: Callable[[], Lookout]) -> Lookout:
        """Return the lookout of the copies with this key, these headers and this budget."""
        headers = tuple(sorted(settings.default_headers.items()))
        account = (settings.api_key, headers, settings.poll.requests_per_second)
        lookout = self._lookouts.get(account)
        if lookout is None:
            lookout = self._lookouts[account] = make()
        return lookout
