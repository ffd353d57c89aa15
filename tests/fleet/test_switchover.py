"""A database that does not answer, or that refuses writes for a while, as in a switchover."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import asyncpg
import attrs
import pytest

from apimart_async.batch.journal import database
from apimart_async.batch.journal.postgres import PostgresJournal

from .test_postgres_journal import described, submitted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .postgres_server import PostgresServer

# asyncpg looks for the files of libpq when it connects.
pytestmark = pytest.mark.may_block


END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"


@attrs.define
class Network:
    """Connections to the server that can stop to carry anything, without being closed.

    Attributes:
        mark: Bytes of a request behind which a connection is dead.
        is_dead: Set when one is.
    """

    port: int
    mark: bytes = b""
    is_dead: asyncio.Event = attrs.field(factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = attrs.field(factory=list["asyncio.Task[None]"])

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.port)
        self._tasks += [
            asyncio.ensure_future(self._carry(reader, to_server, is_request=True)),
            asyncio.ensure_future(self._carry(from_server, writer, is_request=False)),
        ]

    async def _carry(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, is_request: bool
    ) -> None:
        try:
            while data := await source.read(65536):
                if is_request and self.mark and self.mark in data:
                    self.mark = b""
                    self.is_dead.set()
                    await asyncio.Event().wait()
                target.write(data)
                await target.drain()
        finally:
            with suppress(OSError):
                target.close()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def network(port: int) -> AsyncGenerator[tuple[Network, int]]:
    made = Network(port)
    listener = await asyncio.start_server(made.connect, "127.0.0.1", 0)
    try:
        yield made, listener.sockets[0].getsockname()[1]
    finally:
        made.close()
        listener.close()


async def test_a_connection_that_dies_in_a_transaction_holds_up_no_process(
    server: PostgresServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without power or network: neither side of its connections hears of it for hours."""
    monkeypatch.setattr(database, "_MOST_WORK", 5.0)
    monkeypatch.setattr(database, "_MOST_IDLE", 1.0)
    intent = described("job").intent("key", 0.0)
    async with (
        network(server.port) as (connections, port),
        PostgresJournal(url.replace(str(server.port), str(port))) as first,
        PostgresJournal(url) as second,
    ):
        assert await first.begin(intent, None)
        connections.mark = b"INSERT INTO apimart_jobs"
        writing = asyncio.ensure_future(first.put(submitted(intent, "task")))
        try:
            await connections.is_dead.wait()
            # Its transaction has locked the row.
            async with asyncio.timeout(120):
                await second.put(submitted(intent, "task"))
                assert not writing.done()
                await writing
        finally:
            connections.close()
        row = await second.get("job")
        assert row is not None
        assert row.state == "submitted"


async def test_writes_wait_for_a_database_that_is_read_only(server: PostgresServer, url: str) -> None:
    name = url.rpartition("/")[2]
    admin = await asyncpg.connect(f"postgresql://postgres@127.0.0.1:{server.port}/postgres")
    intent = described("job").intent("key", 0.0)
    try:
        async with PostgresJournal(url) as journal:
            assert await journal.begin(intent, None)
            await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
            )
            writing = asyncio.ensure_future(journal.put(submitted(intent, "task")))
            reserving = asyncio.ensure_future(journal.put_state("name", b"state"))
            await asyncio.sleep(0.5)
            assert not writing.done()
            assert not reserving.done()
            await admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
            async with asyncio.timeout(120):
                await asyncio.gather(writing, reserving)
            row = await journal.get("job")
        assert row is not None
        assert row.state == "submitted"
    finally:
        await admin.close()
