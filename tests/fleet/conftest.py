"""Fixtures of the tests with a PostgreSQL server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .postgres_server import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """A running server; a test that stops it starts it again."""
    with PostgresServer() as running:
        yield running


@pytest.fixture
def url(server: PostgresServer) -> str:
    """The URL of a new database."""
    return server.new_database()
