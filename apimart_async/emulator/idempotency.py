"""Idempotency keys: the first answer is kept and given again."""

from __future__ import annotations

from attrs import define, field

from .replies import Refusal
from .settings import IDEMPOTENCY_TTL

_LONGEST = 191
_Scope = tuple[str, str]


@define
class _Remembered:
    digest: str
    until: float
    answer: tuple[int, bytes] | None = None


def check_key(key: str) -> None:
    """Refuse a key that is not 1 to 191 visible ASCII characters.

    Raises:
        Refusal: 400.
    """
    if not 1 <= len(key) <= _LONGEST or not all("!" <= character <= "~" for character in key):
        raise Refusal(
            status=400,
            code="invalid_idempotency_key",
            message=f"Idempotency-Key must be 1-{_LONGEST} visible ASCII characters",
        )


@define
class IdempotencyKeys:
    """Remember for 24 h, per key and endpoint, what was asked for and what was answered."""

    _kept: dict[_Scope, _Remembered] = field(factory=dict[_Scope, _Remembered], init=False)

    def begin(self, scope: _Scope, digest: str, now: float) -> tuple[int, bytes] | None:
        """Claim a key for a request that is about to be executed.

        Args:
            scope: The endpoint and the key.
            digest: Digest of the request's body.
            now: Unix seconds.

        Returns:
            The status and body of the first answer when the request was executed before, else None: the
            caller executes it, then calls `finish` or `abandon`.

        Raises:
            Refusal: 409, when the key was used for another body or its first request is still being executed.
        """
        self._forget(now)
        kept = self._kept.get(scope)
        if kept is None:
            self._kept[scope] = _Remembered(digest, now + IDEMPOTENCY_TTL)
            return None
        if kept.digest != digest:
            raise Refusal(
                status=409,
                code="idempotency_key_reused",
                message="Idempotency-Key was already used with a different request",
            )
        if kept.answer is None:
            raise Refusal(
                status=409,
                code="idempotency_in_progress",
                message="a request with this Idempotency-Key is still in progress",
                headers={"Retry-After": "1"},
            )
        return kept.answer

    def finish(self, scope: _Scope, status: int, body: bytes) -> None:
        """Keep the answer of a request that was executed."""
        self._kept[scope].answer = (status, body)

    def abandon(self, scope: _Scope) -> None:
        """Forget a key whose request was not executed."""
        self._kept.pop(scope, None)

    def _forget(self, now: float) -> None:
        while self._kept:
            scope = next(iter(self._kept))
            if self._kept[scope].until > now:
                return
            del self._kept[scope]
