"""The tables: tenants, their API keys, their datasets, their models' traffic rules. One schema for SQLite and PostgreSQL.

Everything of a tenant goes with its row (ON DELETE CASCADE). The migrations build the same schema; a test
holds the two together.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    String,
    Text,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# Byte order on both databases: a locale's own order ignores hyphens.
SLUG = String(63).with_variant(String(63, collation="C"), "postgresql")


class Instant(TypeDecorator[datetime]):
    """An aware datetime in UTC. SQLite keeps no time zone, so there it is stored without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuses a naive datetime: nobody knows which instant it is."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Always in UTC, whatever the session's time zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Table(DeclarativeBase):
    """The root of every row, with names for what would have none: a migration can only drop what has a name."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class TenantRow(Table):
    """A tenant."""

    __tablename__ = "tenants"

    slug: Mapped[str] = mapped_column(SLUG, primary_key=True)
    display_name: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(20))
    # As JSON, so that a new limit needs no migration: what a row does not name has its default.
    quota: Mapped[dict[str, Any]] = mapped_column(JSON)
    weight: Mapped[float] = mapped_column(Float)
    labels: Mapped[dict[str, str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(Instant)


class KeyRow(Table):
    """An API key. A row without a tenant is an administrator's."""

    __tablename__ = "api_keys"
    __table_args__ = (Index("ix_api_keys_tenant_created_at_id", "tenant", "created_at", "id"),)

    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    tenant: Mapped[str | None] = mapped_column(SLUG, ForeignKey("tenants.slug", ondelete="CASCADE"))
    role: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(Text)
    # In hex. The secret itself is stored nowhere.
    secret_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(Instant)
    expires_at: Mapped[datetime | None] = mapped_column(Instant)
    revoked_at: Mapped[datetime | None] = mapped_column(Instant)
    last_used_at: Mapped[datetime | None] = mapped_column(Instant)


class DatasetRow(Table):
    """A dataset, less its names and labels."""

    __tablename__ = "datasets"
    __table_args__ = (
        Index("ix_datasets_tenant_created_at_id", "tenant", "created_at", "id"),
        Index("ix_datasets_tenant_sha256", "tenant", "sha256"),
    )

    tenant: Mapped[str] = mapped_column(SLUG, ForeignKey("tenants.slug", ondelete="CASCADE"), primary_key=True)
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    source_uri: Mapped[str] = mapped_column(Text)
    # JSON as text, here and below: it may hold what PostgreSQL's own JSON refuses, and nobody searches in it.
    read_options: Mapped[str] = mapped_column(Text)
    format: Mapped[str] = mapped_column(String(20))
    rows: Mapped[int] = mapped_column(BigInteger)
    stored_bytes: Mapped[int] = mapped_column(BigInteger)
    # Up to megabytes for a wide table: lists leave it in the database.
    columns: Mapped[str] = mapped_column(Text)
    owner: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Instant)


class DatasetNameRow(Table):
    """One name of a dataset. `named_at` is when it was last handed over under that name."""

    __tablename__ = "dataset_names"
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "dataset_id"], ["datasets.tenant", "datasets.id"], ondelete="CASCADE"),
        Index("ix_dataset_names_tenant_name_named_at", "tenant", "name", "named_at"),
    )

    tenant: Mapped[str] = mapped_column(SLUG, primary_key=True)
    dataset_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    named_at: Mapped[datetime] = mapped_column(Instant)


class DatasetLabelRow(Table):
    """One label of a dataset."""

    __tablename__ = "dataset_labels"
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "dataset_id"], ["datasets.tenant", "datasets.id"], ondelete="CASCADE"),
        Index("ix_dataset_labels_tenant_key_value", "tenant", "key", "value"),
    )

    tenant: Mapped[str] = mapped_column(SLUG, primary_key=True)
    dataset_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class TrafficRow(Table):
    """How requests to a model are shared out, and what shadow traffic has shown since."""

    __tablename__ = "traffic_rules"

    tenant: Mapped[str] = mapped_column(SLUG, ForeignKey("tenants.slug", ondelete="CASCADE"), primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    champion: Mapped[str] = mapped_column(Text)
    challenger: Mapped[str] = mapped_column(Text)
    challenger_share: Mapped[float] = mapped_column(Float)
    shadow_share: Mapped[float] = mapped_column(Float)
    # When the rule was set; what follows counts from there.
    since: Mapped[datetime] = mapped_column(Instant)
    compared_rows: Mapped[int] = mapped_column(BigInteger)
    differing_rows: Mapped[int] = mapped_column(BigInteger)
    total_difference: Mapped[float] = mapped_column(Float)
    max_difference: Mapped[float] = mapped_column(Float)
    skipped_requests: Mapped[int] = mapped_column(BigInteger)
