"""The database: its connections, its transactions, and what is said when it is away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from sqlalchemy import URL, Connection, event, exc, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from mlops import errors

# How long a call waits for a connection, a connect, or another writer's lock.
WAIT_SECONDS = 5
DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
# The execution option that tells SQLite's transactions to take the write lock at their start.
_WRITES = "mlops_writes"


def now() -> datetime:
    """The stores' clock, unless a test hands them another."""
    return datetime.now(UTC)


def database_url(url: str) -> URL:
    """The URL with the driver that we use for its database.

    Raises InvalidRequest, field `database_url`, for anything but a file of SQLite or PostgreSQL.
    """
    try:
        parsed = make_url(url)
    except exc.ArgumentError as error:
        raise errors.InvalidRequest.of("database_url", "is not a database URL") from error
    driver = DRIVERS.get(parsed.drivername)
    if driver is None:
        raise errors.InvalidRequest.of("database_url", "must begin with sqlite+aiosqlite:// or postgresql+psycopg://")
    if driver.startswith("sqlite") and parsed.database in (None, "", ":memory:"):
        raise errors.InvalidRequest.of("database_url", "must name a file: SQLite's memory is lost with its connection")
    return parsed.set(drivername=driver)


def create_engine(url: str, *, wait_seconds: int = WAIT_SECONDS) -> AsyncEngine:
    """An engine whose transactions mean the same on both databases. It connects when it is first used."""
    parsed = database_url(url)
    if parsed.get_backend_name() == "postgresql":
        return create_async_engine(
            parsed,
            pool_pre_ping=True,
            pool_timeout=wait_seconds,
            # tcp_user_timeout (ms) ends a call to a host that has gone silent.
            connect_args={"connect_timeout": wait_seconds, "tcp_user_timeout": 2 * wait_seconds * 1000},
        )
    engine = create_async_engine(parsed, pool_timeout=wait_seconds)

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, record: object) -> None:
        # Python's own transaction control begins none for a SELECT: we say BEGIN ourselves.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {wait_seconds * 1000}")
        cursor.execute("PRAGMA foreign_keys = ON")
        # With a write-ahead log this loses no commit when the process dies, only when the machine does.
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Connection) -> None:
        # A transaction that reads first and then writes could not wait for another writer: it would fail.
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def writing(engine: AsyncEngine) -> AsyncEngine:
    """The same engine for transactions that write."""
    return engine.execution_options(**{_WRITES: True})


@contextmanager
def translated() -> Iterator[None]:
    """Turns the drivers' errors into ours: away is Unavailable, a value it cannot hold InvalidRequest."""
    try:
        yield
    except exc.DataError as error:
        raise errors.InvalidRequest("a value of the request cannot be stored: a NUL, or a number too large") from error
    except (exc.OperationalError, exc.TimeoutError, OSError) as error:
        raise errors.Unavailable("the database did not answer; try again") from error
    except exc.DBAPIError as error:
        if error.connection_invalidated:
            raise errors.Unavailable("the connection to the database was lost; try again") from error
        raise


class Database:
    """The open database. One a process; close it at the end."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._reader = engine
        self._writer = writing(engine)

    @classmethod
    def open(cls, url: str) -> Self:
        """The database at a URL: sqlite+aiosqlite:///path or postgresql+psycopg://…, migrated before.

        Connects when it is first used. Raises InvalidRequest for another URL.
        """
        return cls(create_engine(url))

    async def check(self) -> None:
        """Asks the database for an answer. Raises Unavailable."""
        async with self.read() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Closes every connection."""
        await self._reader.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A transaction that only reads. Raises Unavailable."""
        with translated():
            async with AsyncSession(self._reader, expire_on_commit=False) as session, session.begin():
                yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A transaction, committed where the block ends well. Raises Unavailable."""
        with translated():
            async with AsyncSession(self._writer, expire_on_commit=False) as session, session.begin():
                yield session
