"""Open or read a journal by its path or its URL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeGuard, cast

from apimart_async.arguments import wrong_type
from apimart_async.batch.journal.database import SCHEMES
from apimart_async.batch.journal.postgres import PostgresJournal
from apimart_async.batch.journal.postgres_reading import read_postgres_journal
from apimart_async.batch.journal.sqlite import SqliteJournal, read_journal
from apimart_async.batch.journal.sqlite_file import FOLDER
from apimart_async.errors import InvalidArgumentError
from apimart_async.transport.object_storage import is_object_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apimart_async.batch.journal.protocol import Journal
    from apimart_async.batch.journal.record import Record

_URL: Final = "://"


def journal_path(output: str | os.PathLike[str]) -> Path:
    """Return the default path of the journal of a batch."""
    return Path(output) / FOLDER / "journal.sqlite3"


def open_journal(journal: Journal | str | os.PathLike[str] | None, output: str | os.PathLike[str]) -> Journal:
    """Return a journal, not entered yet.

    Args:
        journal: Its path or URL, or the journal itself; ``None`` for the one in the output folder.
        output: Folder of the batch.

    Raises:
        InvalidArgumentError: The URL has another scheme, or the extra ``postgres`` is not installed.
    """
    if is_url(journal):
        return PostgresJournal(journal)
    if journal is None:
        if is_object_url(output):
            raise InvalidArgumentError(
                "A journal cannot be kept in object storage: give it a place with journal=, a path on this "
                "machine or postgresql://…"
            )
        return SqliteJournal(journal_path(output))
    if isinstance(journal, (str, os.PathLike)):
        return SqliteJournal(journal)
    if not hasattr(cast("object", journal), "claim"):
        raise wrong_type("journal", "a path, a URL or a Journal", journal)
    return journal


def read_records(
    journal: str | os.PathLike[str] | None,
    output: str | os.PathLike[str],
    *,
    may_be_missing: bool = False,
) -> Iterator[Record]:
    """Yield the rows of a journal, and change nothing; blocks.

    Args:
        journal: Its path or URL; ``None`` for the one in the output folder.
        output: Folder of the batch.
        may_be_missing: Whether a database without a journal has no rows, instead of being an error.

    Raises:
        JournalError: There is no journal, it is damaged or of a newer version, or cannot be reached.
        InvalidArgumentError: As for ``open_journal``; or the output is in object storage, and no journal is
            named.
    """
    check_location(journal)
    if is_url(journal):
        return read_postgres_journal(journal, may_be_missing=may_be_missing)
    return read_journal(existing_journal_path(output) if journal is None else Path(journal))


def existing_journal_path(output: str | os.PathLike[str]) -> Path:
    """Return the default path of the journal of a batch that may have run.

    Raises:
        InvalidArgumentError: The output is in object storage, so the journal is elsewhere.
    """
    if is_object_url(output):
        raise InvalidArgumentError(
            "The journal of a batch in object storage is elsewhere: name it with journal=."
        )
    return journal_path(output)


def check_location(journal: object) -> None:
    """Check the type of the location of a journal.

    Raises:
        InvalidArgumentError: The location is neither a path nor a URL nor ``None``.
    """
    if not (journal is None or isinstance(journal, str | os.PathLike)):
        raise wrong_type("journal", "a path or a URL", journal)


def is_url(journal: object) -> TypeGuard[str]:
    """Tell whether a journal is in a database.

    Raises:
        InvalidArgumentError: The URL has another scheme.
    """
    if not isinstance(journal, str) or _URL not in journal:
        return False
    if not journal.startswith(SCHEMES):
        # Without the URL itself, which may hold a password.
        raise InvalidArgumentError(
            "The URL of a journal begins with postgresql://; another journal is a path."
        )
    return True
