"""How requests to a model are shared out between its versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SLUG = sa.String(63).with_variant(sa.String(63, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "traffic_rules",
        sa.Column("tenant", SLUG, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("champion", sa.Text(), nullable=False),
        sa.Column("challenger", sa.Text(), nullable=False),
        sa.Column("challenger_share", sa.Float(), nullable=False),
        sa.Column("shadow_share", sa.Float(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("compared_rows", sa.BigInteger(), nullable=False),
        sa.Column("differing_rows", sa.BigInteger(), nullable=False),
        sa.Column("total_difference", sa.Float(), nullable=False),
        sa.Column("max_difference", sa.Float(), nullable=False),
        sa.Column("skipped_requests", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "model", name="pk_traffic_rules"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.slug"], name="fk_traffic_rules_tenants", ondelete="CASCADE"),
    )


def downgrade() -> None:
    op.drop_table("traffic_rules")
