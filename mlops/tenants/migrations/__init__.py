"""The schema's migrations, in this package so that an installed wheel brings them along."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import aiosqlite
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from mlops.errors import Unavailable
from mlops.tenants.database import create_engine, translated, writing

# How long to wait while another process migrates.
WAIT_SECONDS = 60
# PostgreSQL's advisory locks share one space of numbers a database; this one is "mlops" in ASCII.
_LOCK = 0x6D6C6F7073


def config(connection: Connection) -> Config:
    """Alembic's settings for one connection; there is no alembic.ini."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.attributes["connection"] = connection
    return settings


async def migrate(url: str) -> None:
    """Brings the database at `url` to the newest schema; changes nothing where it is there already.

    Safe to call from several processes at once: one migrates, in one transaction, the others wait for it.
    Raises Unavailable where the database is away, or busy for longer than a minute.
    """
    engine = create_engine(url, wait_seconds=WAIT_SECONDS)
    try:
        with translated():
            if engine.dialect.name == "sqlite":
                await _write_ahead(engine)
            async with writing(engine).begin() as connection:
                if engine.dialect.name == "postgresql":
                    await connection.execute(text(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'"))
                    await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                await connection.run_sync(lambda it: command.upgrade(config(it), "head"))
    finally:
        await engine.dispose()


async def _write_ahead(engine: AsyncEngine) -> None:
    """Switches SQLite's file to a write-ahead log, so that readers and the writer do not wait for each other.

    The file remembers it. The switch itself does not wait for another process's lock, so that is done here.
    """
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        if not isinstance(driver, aiosqlite.Connection):
            raise TypeError(f"SQLite's driver gave a {type(driver)}")
        while True:
            try:
                await driver.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise Unavailable("the database file is locked by another process; try again") from error
                await asyncio.sleep(0.05)
