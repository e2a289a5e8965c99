"""Tenants, their API keys, their datasets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SLUG = sa.String(63).with_variant(sa.String(63, collation="C"), "postgresql")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "tenants",
        sa.Column("slug", SLUG, nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("quota", sa.JSON(), nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("slug", name="pk_tenants"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(12), nullable=False),
        sa.Column("tenant", SLUG, nullable=True),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.Column("revoked_at", INSTANT, nullable=True),
        sa.Column("last_used_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.slug"], name="fk_api_keys_tenants", ondelete="CASCADE"),
    )
    op.create_index("ix_api_keys_tenant_created_at_id", "api_keys", ["tenant", "created_at", "id"])
    op.create_table(
        "datasets",
        sa.Column("tenant", SLUG, nullable=False),
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("source_uri", sa.Text(), nullable=False),
        sa.Column("read_options", sa.Text(), nullable=False),
        sa.Column("format", sa.String(20), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("columns", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name="pk_datasets"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.slug"], name="fk_datasets_tenants", ondelete="CASCADE"),
    )
    op.create_index("ix_datasets_tenant_created_at_id", "datasets", ["tenant", "created_at", "id"])
    op.create_index("ix_datasets_tenant_sha256", "datasets", ["tenant", "sha256"])
    op.create_table(
        "dataset_names",
        sa.Column("tenant", SLUG, nullable=False),
        sa.Column("dataset_id", sa.String(40), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("named_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "dataset_id", "name", name="pk_dataset_names"),
        sa.ForeignKeyConstraint(
            ["tenant", "dataset_id"],
            ["datasets.tenant", "datasets.id"],
            name="fk_dataset_names_datasets",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_dataset_names_tenant_name_named_at", "dataset_names", ["tenant", "name", "named_at"])
    op.create_table(
        "dataset_labels",
        sa.Column("tenant", SLUG, nullable=False),
        sa.Column("dataset_id", sa.String(40), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "dataset_id", "key", name="pk_dataset_labels"),
        sa.ForeignKeyConstraint(
            ["tenant", "dataset_id"],
            ["datasets.tenant", "datasets.id"],
            name="fk_dataset_labels_datasets",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_dataset_labels_tenant_key_value", "dataset_labels", ["tenant", "key", "value"])


def downgrade() -> None:
    op.drop_table("dataset_labels")
    op.drop_table("dataset_names")
    op.drop_table("datasets")
    op.drop_table("api_keys")
    op.drop_table("tenants")
