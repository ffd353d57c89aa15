"""The tables and statements of the journal in PostgreSQL, and the connection that executes them.

``$1`` is the worker, where a statement needs one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager


class Connection(Protocol):
    """A connection of asyncpg, which has no types of its own."""

    async def execute(self, query: str, *args: object) -> str:
        """Execute a statement, and return its status."""
        ...

    async def fetch(self, query: str, *args: object) -> list[Sequence[Any]]:
        """Execute a statement, and return its rows."""
        ...

    async def fetchval(self, query: str, *args: object) -> Any:  # noqa: ANN401 as the column
        """Execute a statement, and return the first value."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[object]:
        """Return a context manager that commits, or rolls back."""
        ...

    def is_closed(self) -> bool:
        """Tell whether the connection is closed."""
        ...

    async def close(self, *, timeout: float) -> None:
        """Close the connection, with the server's consent if it comes in time."""
        ...

    def terminate(self) -> None:
        """Close the connection without waiting."""
        ...


# The locks of a process that stops in a transaction would stop all others.
LIMIT_TRANSACTIONS: Final = "SELECT set_config('idle_in_transaction_session_timeout', $1, false)"
TABLES: Final = """
    CREATE TABLE IF NOT EXISTS apimart_workers (
        id uuid PRIMARY KEY,
        lease_until timestamptz NOT NULL,
        host text NOT NULL,
        started_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE TABLE IF NOT EXISTS apimart_jobs (
        seq bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        id text PRIMARY KEY,
        owner uuid NOT NULL,
        state text NOT NULL,
        key text,
        model text NOT NULL,
        images integer NOT NULL,
        cost double precision,
        body text NOT NULL
    );
    CREATE TABLE IF NOT EXISTS apimart_payments (
        job_id text NOT NULL,
        task_id text NOT NULL,
        key text NOT NULL,
        worker uuid NOT NULL,
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (job_id, task_id)
    );
    CREATE TABLE IF NOT EXISTS apimart_uploads (
        key text PRIMARY KEY,
        expires_at timestamptz NOT NULL,
        body text NOT NULL
    );
    CREATE TABLE IF NOT EXISTS apimart_states (
        name text PRIMARY KEY,
        data bytea NOT NULL
    );
    CREATE TABLE IF NOT EXISTS apimart_rate (
        name text PRIMARY KEY,
        next_at timestamptz NOT NULL,
        paused_until timestamptz
    );
    CREATE TABLE IF NOT EXISTS apimart_reservations (
        worker uuid PRIMARY KEY,
        usd double precision NOT NULL
    );"""

OTHER_SCHEMA: Final = """
    SELECT nspname::text FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
     WHERE pg_class.oid = to_regclass('apimart_jobs') AND nspname <> current_schema()"""
"""The schema of a journal that new tables would hide: they are made in the first of the search path."""

COLUMNS: Final = "id, state, key, model, images, cost, body"
_ROWS: Final = (
    "unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::double precision[], "
    f"$8::text[]) AS t ({COLUMNS})"
)
_CHANGES: Final = (
    "state = {0}.state, key = {0}.key, model = {0}.model, images = {0}.images, cost = {0}.cost, "
    "body = {0}.body"
)
_IS_OWNER_LIVE: Final = (
    "EXISTS (SELECT FROM apimart_workers w WHERE w.id = j.owner AND w.lease_until > clock_timestamp())"
)
# With a second for the transaction itself.
_AM_LIVE: Final = (
    "EXISTS (SELECT FROM apimart_workers w WHERE w.id = $1 "
    "AND w.lease_until > clock_timestamp() + interval '1 second')"
)
_RANK: Final = (
    "array_position(ARRAY['intent', 'in_doubt', 'submitted', 'failed', 'completed', 'saved'], {}.state)"
)

# Of all the rows that it locks, it returns the intents.
LOCK_ROWS: Final = """
    WITH locked AS (
        SELECT id, state, key FROM apimart_jobs WHERE id = ANY($1::text[]) ORDER BY id FOR UPDATE)
    SELECT id, key FROM locked WHERE state = 'intent'"""
STEAL: Final = f"""
    UPDATE apimart_jobs j SET owner = $1
    WHERE j.id = ANY($2::text[]) AND j.owner <> $1 AND j.state <> 'saved'
    AND NOT {_IS_OWNER_LIVE} AND {_AM_LIVE}"""
CLAIM: Final = f"""
    SELECT {COLUMNS}, j.owner <> $1 AND j.state <> 'saved' AND {_IS_OWNER_LIVE} AS is_elsewhere
    FROM apimart_jobs j WHERE j.id = ANY($2::text[])"""
# The second time, after a commit whose answer was lost, the row is there.
BEGIN: Final = f"""
    INSERT INTO apimart_jobs AS j (owner, {COLUMNS}) SELECT $1, t.* FROM {_ROWS}
    WHERE {_AM_LIVE} ORDER BY t.id
    ON CONFLICT (id) DO UPDATE SET owner = excluded.owner
    WHERE j.owner = excluded.owner AND j.state = 'intent' AND j.key = excluded.key
    RETURNING j.id"""
BEGIN_AGAIN: Final = f"""
    UPDATE apimart_jobs j SET {_CHANGES.format("t")}
    FROM {_ROWS}, unnest($2::text[], $9::text[], $10::text[]) AS p (id, state, key)
    WHERE j.id = t.id AND j.id = p.id AND j.owner = $1 AND {_AM_LIVE}
    AND ((j.state = p.state AND j.key IS NOT DISTINCT FROM p.key) OR (j.state = 'intent' AND j.key = t.key))
    RETURNING j.id"""
PUT: Final = f"""
    INSERT INTO apimart_jobs AS j (owner, {COLUMNS}) SELECT $1, t.* FROM {_ROWS} ORDER BY t.id
    ON CONFLICT (id) DO UPDATE SET {_CHANGES.format("excluded")}
    WHERE j.owner = excluded.owner OR (
        j.key IS NOT DISTINCT FROM excluded.key AND {_RANK.format("j")} <= {_RANK.format("excluded")}
    )"""
PAY: Final = """
    INSERT INTO apimart_payments (job_id, task_id, key, worker)
    SELECT t.*, $1 FROM unnest($2::text[], $3::text[], $4::text[]) AS t ON CONFLICT DO NOTHING"""
UNDO: Final = f"""
    UPDATE apimart_jobs j SET {_CHANGES.format("t")}
    FROM {_ROWS}, unnest($2::text[], $9::text[]) AS p (id, key)
    WHERE j.id = t.id AND j.id = p.id AND j.owner = $1 AND j.state = 'intent' AND j.key = p.key"""
UNDO_NEW: Final = """
    DELETE FROM apimart_jobs j USING unnest($2::text[], $3::text[]) AS p (id, key)
    WHERE j.id = p.id AND j.owner = $1 AND j.state = 'intent' AND j.key = p.key"""
DROP: Final = "DELETE FROM apimart_jobs WHERE id = ANY($2::text[]) AND owner = $1"
CLEAN: Final = f"DELETE FROM apimart_jobs j WHERE state = 'failed' AND key IS NULL AND NOT {_IS_OWNER_LIVE}"
TALLY: Final = "SELECT state, count(*), coalesce(sum(greatest(cost, 0)), 0) FROM apimart_jobs GROUP BY state"
OUTSTANDING: Final = (
    "SELECT model, sum(greatest(images, 0)) FROM apimart_jobs "
    "WHERE cost IS NULL AND state <> 'failed' GROUP BY model"
)
WORKERS: Final = """
    SELECT id, host, extract(epoch FROM clock_timestamp() - started_at)::double precision,
        extract(epoch FROM lease_until - clock_timestamp())::double precision
    FROM apimart_workers WHERE lease_until > clock_timestamp() ORDER BY started_at, id"""
OWNED: Final = "SELECT owner, state, count(*) FROM apimart_jobs GROUP BY owner, state"
HAS_TABLES: Final = "SELECT to_regclass('apimart_states') IS NOT NULL"
PAGE: Final = f"SELECT seq, {COLUMNS} FROM apimart_jobs WHERE seq > $1 ORDER BY seq LIMIT 500"
PUT_UPLOAD: Final = """
    INSERT INTO apimart_uploads VALUES ($1, $2, $3)
    ON CONFLICT (key) DO UPDATE SET expires_at = excluded.expires_at, body = excluded.body"""
PUT_STATE: Final = """
    INSERT INTO apimart_states VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET data = excluded.data"""
GET: Final = f"SELECT {COLUMNS} FROM apimart_jobs WHERE id = $1"
GET_UPLOAD: Final = "SELECT body FROM apimart_uploads WHERE key = $1"
GET_STATE: Final = "SELECT data FROM apimart_states WHERE name = $1"
SET_VERSION: Final = "INSERT INTO apimart_states VALUES ('version', $1) ON CONFLICT DO NOTHING"
GET_VERSION: Final = "SELECT data FROM apimart_states WHERE name = 'version'"
CLEAN_UPLOADS: Final = "DELETE FROM apimart_uploads WHERE expires_at < clock_timestamp()"
CLEAN_RESERVATIONS: Final = """
    DELETE FROM apimart_reservations r WHERE NOT EXISTS (
        SELECT FROM apimart_workers w WHERE w.id = r.worker AND w.lease_until > clock_timestamp())"""
LOCK_TABLES: Final = "SELECT pg_advisory_xact_lock($1)"
