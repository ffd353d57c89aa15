"""Idempotency keys: a repeated request gets the first response again."""

from __future__ import annotations

from attrs import define, field

from .responses import ServiceError
from .settings import IDEMPOTENCY_TTL

_MAX_LENGTH = 191
_Scope = tuple[str, str]


@define
class _Record:
    digest: str
    expires_at: float
    response: tuple[int, bytes] | None = None


def check_key(key: str) -> None:
    """Check that a key is 1 to 191 visible ASCII characters.

    Raises:
        ServiceError: 400.
    """
    if not 1 <= len(key) <= _MAX_LENGTH or not all("!" <= character <= "~" for character in key):
        raise ServiceError(
            status=400,
            code="invalid_idempotency_key",
            message=f"Idempotency-Key must be 1-{_MAX_LENGTH} visible ASCII characters",
        )


@define
class IdempotencyKeys:
    """Remember request and response of each key and endpoint for 24 h."""

    _records: dict[_Scope, _Record] = field(factory=dict[_Scope, _Record], init=False)

    def begin(self, scope: _Scope, digest: str, now: float) -> tuple[int, bytes] | None:
        """Claim a key for a request.

        Args:
            scope: The endpoint and the key.
            digest: Digest of the request's body.
            now: Unix seconds.

        Returns:
            The status and body of the first response when the request was executed before, else None: the
            caller executes it, then calls `finish` or `abandon`.

        Raises:
            ServiceError: 409, when the key was used for another body or its first request still runs.
        """
        self._expire(now)
        record = self._records.get(scope)
        if record is None:
            self._records[scope] = _Record(digest, now + IDEMPOTENCY_TTL)
            return None
        if record.digest != digest:
            raise ServiceError(
                status=409,
                code="idempotency_key_reused",
                message="Idempotency-Key was already used with a different request",
            )
        if record.response is None:
            raise ServiceError(
                status=409,
                code="idempotency_in_progress",
                message="a request with this Idempotency-Key is still in progress",
                headers={"Retry-After": "1"},
            )
        return record.response

    def finish(self, scope: _Scope, status: int, body: bytes) -> None:
        """Keep the response to an executed request."""
        self._records[scope].response = (status, body)

    def abandon(self, scope: _Scope) -> None:
        """Forget a key whose request was not executed."""
        self._records.pop(scope, None)

    def _expire(self, now: float) -> None:
        while self._records:
            scope = next(iter(self._records))
            if self._records[scope].expires_at > now:
                return
            del self._records[scope]
