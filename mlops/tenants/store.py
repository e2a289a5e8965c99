"""Tenants in the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from cachetools import TTLCache
from pydantic import ValidationError
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mlops.errors import AlreadyExists, FailedPrecondition, InvalidRequest, NotFound
from mlops.jobs.pages import Listing
from mlops.jobs.pages import page_size as items_of
from mlops.tenants.database import Database, now
from mlops.tenants.lookups import SharedLookups
from mlops.tenants.tables import TenantRow
from mlops.tenants.tenant import NewTenant, Quota, Tenant, TenantState

_LISTING = Listing.of("tenants")
# A quota that another gateway changed holds here as much later.
QUOTA_TTL = timedelta(seconds=1)
QUOTA_ENTRIES = 10_000


class TenantStore:
    """Tenants in the database. Every method may raise Unavailable."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = now) -> None:
        self._database = database
        self._clock = clock
        self._quotas: TTLCache[str, Quota] = TTLCache(QUOTA_ENTRIES, QUOTA_TTL.total_seconds())
        self._lookups = SharedLookups(self.get)

    async def create(self, new: NewTenant) -> Tenant:
        """A new tenant, in state PROVISIONING; or the one that has the slug, where it has the same settings.

        Raises AlreadyExists where its settings differ.
        """
        async with self._database.write() as session:
            row = await session.get(TenantRow, new.slug)
            if row is None:
                row = await self._insert(session, new)
            found = tenant_of(row)
        if NewTenant(**found.model_dump(include=set(NewTenant.model_fields))) != new:
            raise AlreadyExists(f"the slug {new.slug!r} is taken, by a tenant with other settings", slug=new.slug)
        return found

    async def _insert(self, session: AsyncSession, new: NewTenant) -> TenantRow:
        row = TenantRow(
            slug=new.slug,
            display_name=new.display_name,
            state=TenantState.PROVISIONING,
            quota=new.quota.model_dump(mode="json"),
            weight=new.weight,
            labels=dict(new.labels),
            created_at=self._clock(),
        )
        try:
            async with session.begin_nested():
                session.add(row)
        except IntegrityError:  # another gateway was faster
            return await _row(session, new.slug)
        return row

    async def get(self, slug: str) -> Tenant:
        """The tenant, in whatever state. Raises NotFound."""
        async with self._database.read() as session:
            return tenant_of(await _row(session, slug))

    async def quota(self, slug: str) -> Quota:
        """What the tenant may use, as it was within the last second. Raises NotFound."""
        quota = self._quotas.get(slug)
        if quota is None:
            quota = self._quotas[slug] = (await self._lookups.get(slug)).quota
        return quota

    async def list(self, page_size: int = 0, page_token: str = "") -> tuple[tuple[Tenant, ...], str]:
        """One page by slug, and the token of the next ("" on the last). Raises InvalidRequest."""
        limit = items_of(page_size)
        place = _LISTING.place(page_token, 1)
        query = select(TenantRow).order_by(TenantRow.slug).limit(limit + 1)
        if place is not None:
            query = query.where(TenantRow.slug > place[0])
        async with self._database.read() as session:
            found = tuple(tenant_of(row) for row in await session.scalars(query))
        page = found[:limit]
        return page, _LISTING.token(page[-1].slug) if len(found) > limit else ""

    async def update(
        self,
        slug: str,
        *,
        display_name: str | None = None,
        quota: Quota | Mapping[str, int] | None = None,
        weight: float | None = None,
    ) -> Tenant:
        """Changes what is given, and of a quota given as a mapping the limits that it names.

        Raises NotFound, InvalidRequest for a value out of its range, and FailedPrecondition for a tenant that
        is not active: one that is being set up is compared with the request that set it up.
        """
        async with self._database.write() as session:
            row = await _row(session, slug, lock=True)
            if row.state != TenantState.ACTIVE:
                raise FailedPrecondition(f"tenant {slug!r} is {row.state}; only an active one can be changed")
            changes: dict[str, Any] = {"display_name": display_name, "weight": weight}
            if quota is not None:
                named = quota.model_dump() if isinstance(quota, Quota) else dict(quota)
                changes["quota"] = {**row.quota, **named}
            given = {name: value for name, value in changes.items() if value is not None}
            try:
                changed = Tenant.model_validate({**tenant_of(row).model_dump(), **given})
            except ValidationError as exc:
                violations = {".".join(map(str, error["loc"])): error["msg"] for error in exc.errors()}
                raise InvalidRequest(
                    "; ".join(f"{k}: {v}" for k, v in violations.items()), violations=violations
                ) from exc
            row.display_name = changed.display_name
            row.weight = changed.weight
            row.quota = changed.quota.model_dump(mode="json")
        self._forget(slug)
        return changed

    async def set_state(self, slug: str, state: TenantState) -> Tenant:
        """The tenant in its new state. Raises NotFound."""
        async with self._database.write() as session:
            row = await _row(session, slug, lock=True)
            row.state = state
            return tenant_of(row)

    async def remove(self, slug: str) -> None:
        """Removes the tenant's row, and with it its keys and datasets. Nothing happens where there is none."""
        async with self._database.write() as session:
            await session.execute(delete(TenantRow).where(TenantRow.slug == slug))
        self._forget(slug)

    def _forget(self, slug: str) -> None:
        self._quotas.pop(slug, None)
        self._lookups.forget(slug)


async def _row(session: AsyncSession, slug: str, *, lock: bool = False) -> TenantRow:
    row = await session.get(TenantRow, slug, with_for_update=lock)
    if row is None:
        raise NotFound.of("tenant", slug)
    return row


def tenant_of(row: TenantRow) -> Tenant:
    """The tenant that a row holds."""
    return Tenant(
        slug=row.slug,
        display_name=row.display_name,
        state=TenantState(row.state),
        quota=Quota.model_validate(row.quota),
        weight=row.weight,
        created_at=row.created_at,
        labels=row.labels,
    )
