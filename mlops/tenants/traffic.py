"""Traffic rules in the database, and what shadow traffic has shown, added up over all gateways."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import delete, update

from mlops.errors import NotFound
from mlops.jobs.serving import ShadowFigures, Traffic, TrafficRule
from mlops.tenants.database import Database, now
from mlops.tenants.tables import TenantRow, TrafficRow


class TrafficStore:
    """Rules of every tenant's models, by tenant. Every method may raise Unavailable."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = now) -> None:
        self._database = database
        self._clock = clock

    async def get(self, tenant: str, model: str) -> Traffic | None:
        """A model's rule, and what was seen under it; None where it has none."""
        async with self._database.read() as session:
            row = await session.get(TrafficRow, (tenant, model))
            return None if row is None else _traffic_of(row)

    async def set(self, tenant: str, model: str, rule: TrafficRule) -> None:
        """Sets a rule and begins its figures anew; an empty rule removes it. The same rule again changes nothing.

        Raises NotFound for the tenant.
        """
        async with self._database.write() as session:
            if rule == TrafficRule():
                await session.execute(delete(TrafficRow).where(TrafficRow.tenant == tenant, TrafficRow.model == model))
                return
            if await session.get(TenantRow, tenant, with_for_update={"read": True}) is None:
                raise NotFound.of("tenant", tenant)
            row = await session.get(TrafficRow, (tenant, model), with_for_update=True)
            if row is None or _traffic_of(row).rule != rule:
                fresh = TrafficRow(tenant=tenant, model=model, since=self._clock(), **rule.model_dump())
                await session.merge(_emptied(fresh))

    async def add(self, tenant: str, model: str, since: datetime, seen: ShadowFigures) -> None:
        """Adds what one gateway has seen under the rule of that moment; nothing, where another rule is in force."""
        total = seen.mean_difference * seen.compared_rows
        larger = TrafficRow.max_difference < seen.max_difference
        mine = (TrafficRow.tenant == tenant) & (TrafficRow.model == model) & (TrafficRow.since == since)
        async with self._database.write() as session:
            await session.execute(
                update(TrafficRow)
                .where(mine)
                .values(
                    compared_rows=TrafficRow.compared_rows + seen.compared_rows,
                    differing_rows=TrafficRow.differing_rows + seen.differing_rows,
                    total_difference=TrafficRow.total_difference + total,
                    skipped_requests=TrafficRow.skipped_requests + seen.skipped_requests,
                )
            )
            if seen.max_difference > 0:
                await session.execute(update(TrafficRow).where(mine, larger).values(max_difference=seen.max_difference))


def _emptied(row: TrafficRow) -> TrafficRow:
    row.compared_rows = row.differing_rows = row.skipped_requests = 0
    row.total_difference = row.max_difference = 0.0
    return row


def _traffic_of(row: TrafficRow) -> Traffic:
    return Traffic(
        rule=TrafficRule(
            champion=row.champion,
            challenger=row.challenger,
            challenger_share=row.challenger_share,
            shadow_share=row.shadow_share,
        ),
        shadow=ShadowFigures(
            compared_rows=row.compared_rows,
            differing_rows=row.differing_rows,
            mean_difference=row.total_difference / row.compared_rows if row.compared_rows else 0.0,
            max_difference=row.max_difference,
            skipped_requests=row.skipped_requests,
            since=row.since,
        ),
    )
