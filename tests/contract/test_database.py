"""The schema, and what a database does when it is away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from mlops.errors import (
    InvalidRequest,
    NotFound,
    Unavailable,
)
from mlops.tenants.database import Database, create_engine
from mlops.tenants.datasets import DatasetStore
from mlops.tenants.migrations import migrate
from mlops.tenants.store import TenantStore
from mlops.tenants.tables import Table
from mlops.tenants.tenant import NewTenant
from tests.fixtures.database import dataset
from tests.fixtures.postgres import Postgres


async def test_the_migrations_build_the_schema_that_the_models_describe(database_url: str) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return list(compare_metadata(context, Table.metadata))

    engine = create_engine(database_url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_gateways_that_start_at_once_migrate_an_empty_database_once(empty_database_url: str) -> None:
    async with asyncio.timeout(60):
        await asyncio.gather(*(migrate(empty_database_url) for _ in range(6)))
    await migrate(empty_database_url)
    async with Database.open(empty_database_url) as database, database.read() as session:
        assert (await session.scalars(text("SELECT version_num FROM alembic_version"))).all() == ["0002"]


async def test_sqlite_keeps_a_write_ahead_log_and_checks_its_foreign_keys(template_sqlite: Path) -> None:
    async with Database.open(f"sqlite:///{template_sqlite}") as database, database.read() as session:
        assert await session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert await session.scalar(text("PRAGMA foreign_keys")) == 1
        assert await session.scalar(text("PRAGMA busy_timeout")) == 5000


@pytest.mark.parametrize(
    "away", ["postgresql+psycopg://nobody:x@127.0.0.1:1/none", "sqlite+aiosqlite:////no/such/directory/mlops.db"]
)
async def test_a_database_that_is_away_is_unavailable(away: str) -> None:
    async with Database.open(away) as database:
        with pytest.raises(Unavailable):
            await database.check()
        with pytest.raises(Unavailable):
            await TenantStore(database).create(NewTenant(slug="acme"))
    with pytest.raises(Unavailable):
        await migrate(away)


async def test_a_database_that_restarted_serves_the_next_call(postgres: Postgres, postgres_url: str) -> None:
    async with Database.open(postgres_url) as database:
        await database.check()
        with postgres.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [postgres_url.rpartition("/")[2]],
            )
        await database.check()


@pytest.mark.parametrize("url", ["", "mysql://localhost/x", "sqlite+aiosqlite://", "sqlite:///:memory:"], ids=str)
def test_another_kind_of_database_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Database.open(url)
    assert list(refused.value.violations) == ["database_url"]


async def test_a_nul_never_becomes_a_defect_of_ours(tenants: TenantStore, datasets: DatasetStore, acme: str) -> None:
    outcomes = await asyncio.gather(
        tenants.get("a\0b"),
        datasets.get(acme, "a\0b"),
        datasets.list(acme, name="a\0*", labels={"\0": "\0"}),
        datasets.put(acme, dataset("a\0b")),
        return_exceptions=True,
    )
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert failures
    assert all(isinstance(failure, NotFound | InvalidRequest) for failure in failures)
