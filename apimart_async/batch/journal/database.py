"""The connection to the database of a journal: its errors, and retries while the database is unavailable."""

from __future__ import annotations

import asyncio
import importlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlsplit

from apimart_async.batch.journal import sql
from apimart_async.errors import InvalidArgumentError, JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from apimart_async.batch.journal.sql import Connection

SCHEMES: Final = ("postgresql://", "postgres://")
VERSION: Final = 1

_MOST_OUTAGE: Final = 300.0
_MOST_DELAY: Final = 5.0
_CONNECT_TIMEOUT: Final = 10.0
_MOST_WORK: Final = 60.0
_MOST_IDLE: Final = 10.0
_UNREADABLE_URL: Final = (
    "The URL of the journal cannot be read: it must look like postgresql://user:password@host/database, with "
    "special characters of the password in percent escapes, such as %40 for @."
)


class Database:
    """A connection that is replaced when it is lost.

    Args:
        url: ``postgresql://user:password@host/database``.

    Attributes:
        asyncpg: The module.
        shown: Host and database, for messages.

    Raises:
        InvalidArgumentError: The extra ``postgres`` is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            self.asyncpg: Any = importlib.import_module("asyncpg")
        except ImportError:
            raise InvalidArgumentError(
                "A journal in PostgreSQL needs asyncpg: install the extra 'postgres' of this package."
            ) from None
        self._url = url
        parts = _parsed(url)
        self.shown: str = f"{parts.hostname or 'localhost'}{parts.path}"
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()

    async def read(self, statement: str, *parameters: object) -> Sequence[Any]:
        """Execute one statement, and return its rows."""
        try:
            rows: Sequence[Any] = await self.retried(
                lambda connection: connection.fetch(statement, *parameters)
            )
        except self.asyncpg.PostgresError as error:
            raise self.unwritable(error) from None
        return rows

    async def retried(self, function: Callable[[Connection], Any]) -> Any:  # noqa: ANN401 as the function
        """Call a function with the connection, repeatedly while the database is unavailable.

        Everything that it executes may be repeated: the answer to a commit may be lost.

        Raises:
            JournalError: The database has been unavailable for five minutes.
        """
        loop = asyncio.get_running_loop()
        began, delay = loop.time(), 0.05
        while True:
            try:
                async with self._lock:
                    connection = await self.connected()
                    with limited(connection):
                        return await function(connection)
            except Exception as error:
                if isinstance(error, self.asyncpg.DeadlockDetectedError):
                    continue
                if not (self.is_outage(error) or self._is_switchover(error)):
                    raise
                await self.disconnect()
                if loop.time() - began > _MOST_OUTAGE:
                    raise self.unreachable(error) from None
            await asyncio.sleep(delay)
            delay = min(2 * delay, _MOST_DELAY)

    async def connect(self) -> Connection:
        """Return a new connection.

        Raises:
            InvalidArgumentError: The URL is malformed.
        """
        try:
            connection: Connection = await self.asyncpg.connect(self._url, timeout=_CONNECT_TIMEOUT)
        except self.asyncpg.InterfaceError:  # some of these are ``ValueError`` too
            raise
        except ValueError:
            pass
        else:
            return connection
        # Not from asyncpg's error, whose text holds a part of the URL, often of its password.
        raise InvalidArgumentError(_UNREADABLE_URL)

    async def connect_to_read(self) -> Connection:
        """Connect for reading alone; the caller terminates the connection.

        Raises:
            JournalError: The database cannot be reached.
            InvalidArgumentError: The URL is malformed.
        """
        try:
            connection = await self.connect()
            await connection.execute("SET default_transaction_read_only = on")
        except Exception as error:  # noqa: BLE001 raised as another
            raise self.explained(error) from None
        return connection

    def not_found(self) -> JournalError:
        """Return the error of a database without tables of this package."""
        return JournalError(f"There is no journal at {self.shown}: no batch has run there.", path=self.shown)

    def check_schema(self, other: str | None) -> None:
        """Check that no journal is in another schema than the first of the search path.

        Raises:
            JournalError: There is a journal in this schema.
        """
        if other is not None:
            raise JournalError(
                f"The journal at {self.shown} is in the schema {other!r}, and a new one would be made in "
                "another, where its jobs would be paid for again: name the schema with ?search_path= in the "
                "URL.",
                path=self.shown,
            )

    def explained(self, error: Exception) -> Exception:
        """Return the error of the journal for an error of a statement that only reads."""
        if self.is_outage(error):
            return self.unreachable(error)
        return self._unreadable(error) if isinstance(error, self.asyncpg.PostgresError) else error

    async def connected(self) -> Connection:
        """Return the connection, a new one if it is closed."""
        if self._connection is None or self._connection.is_closed():
            connection = self._connection = await self.connect()
            with limited(connection):
                await connection.execute(sql.LIMIT_TRANSACTIONS, f"{_MOST_IDLE * 1000:.0f}")
        return self._connection

    async def disconnect(self) -> None:
        """Close the connection without waiting; the next use makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    def is_outage(self, error: BaseException) -> bool:
        """Tell whether an error means that the database is unavailable or has no free connection."""
        pg = self.asyncpg
        return isinstance(
            error,
            (
                *(OSError, TimeoutError, EOFError),
                *(pg.PostgresConnectionError, pg.InterfaceError, pg.InternalClientError),
                *(pg.OperatorInterventionError, pg.InsufficientResourcesError),
            ),
        )

    def _is_switchover(self, error: BaseException) -> bool:
        """Tell whether a server refuses work for now, as a standby or one that is set up anew does."""
        pg = self.asyncpg
        return isinstance(
            error,
            (
                *(pg.ReadOnlySQLTransactionError, pg.InvalidAuthorizationSpecificationError),
                *(pg.TransactionRollbackError, pg.LockNotAvailableError, pg.PostgresSystemError),
                pg.IdleInTransactionSessionTimeoutError,
            ),
        )

    def check_version(self, data: bytes | None) -> None:
        """Check the version of the tables.

        Args:
            data: The state that holds it.

        Raises:
            JournalError: The version is newer than this package, or cannot be read.
        """
        text = bytes(data or b"")
        if not (text.isdigit() and len(text) < 10):  # noqa: PLR2004 far more than versions
            raise self.damaged("its version cannot be read")
        found = int(text)
        if found > VERSION:
            raise JournalError(
                f"The journal at {self.shown} was written by a newer version of this package (format "
                f"{found}; this one knows {VERSION}): upgrade it.",
                path=self.shown,
            )

    def damaged(self, why: str) -> JournalError:
        """Return the error of a row that cannot be read."""
        return JournalError(f"The journal at {self.shown} is damaged: {why}.", path=self.shown)

    def unreachable(self, error: BaseException) -> JournalError:
        """Return the error of a database that is unavailable."""
        return JournalError(
            f"The journal at {self.shown} cannot be reached ({type(error).__name__}: {error}). Without it "
            "nothing more is submitted: start the database, and run the batch again.",
            path=self.shown,
        )

    def _unreadable(self, error: BaseException) -> JournalError:
        return JournalError(
            f"The journal at {self.shown} cannot be read ({type(error).__name__}: {error}).",
            path=self.shown,
        )

    def unwritable(self, error: BaseException) -> JournalError:
        """Return the error of a statement that the database refuses."""
        return JournalError(
            f"The journal at {self.shown} cannot be written ({type(error).__name__}: {error}).",
            path=self.shown,
        )


@contextmanager
def limited(connection: Connection) -> Generator[None]:
    """Close the connection if its server does not answer the work within a minute, which counts as an outage.

    A machine that loses its power or its network closes no connection, and TCP notices after hours.
    """
    timer = asyncio.get_running_loop().call_later(_MOST_WORK, connection.terminate)
    try:
        yield
    finally:
        timer.cancel()


def _parsed(url: str) -> SplitResult:
    """Parse a URL whose parts may be shown: a part of the password would be in its path or query.

    Raises:
        InvalidArgumentError: The URL cannot be parsed.
    """
    with suppress(ValueError):
        parts = urlsplit(url)
        if "@" not in f"{parts.path}{parts.query}{parts.fragment}":
            return parts
    raise InvalidArgumentError(_UNREADABLE_URL)
