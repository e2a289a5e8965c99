"""Tenants are stored alike in SQLite and in PostgreSQL."""

from __future__ import annotations

import asyncio
import math

import pytest

from mlops.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
)
from mlops.tenants.database import Database
from mlops.tenants.datasets import DatasetStore
from mlops.tenants.keys import KeyStore
from mlops.tenants.store import TenantStore
from mlops.tenants.tables import DatasetLabelRow, DatasetNameRow, DatasetRow
from mlops.tenants.tenant import NewTenant, Quota, Role, Tenant, TenantState
from tests.fixtures.database import START, dataset

SETTINGS = NewTenant(
    slug="acme", display_name="Acme Ünited", quota=Quota(max_job_cpus=8), weight=2.5, labels={"team": "risk"}
)


async def test_a_new_tenant_is_stored_as_it_was_asked_for(tenants: TenantStore) -> None:
    created = await tenants.create(SETTINGS)
    assert created == Tenant(
        slug="acme",
        display_name="Acme Ünited",
        state=TenantState.PROVISIONING,
        quota=Quota(max_job_cpus=8),
        weight=2.5,
        created_at=START,
        labels={"team": "risk"},
    )
    assert await tenants.get("acme") == created


async def test_creating_a_tenant_again_returns_it_and_other_settings_are_refused(tenants: TenantStore) -> None:
    created = await tenants.create(SETTINGS)
    assert await tenants.create(SETTINGS) == created
    changes: tuple[dict[str, object], ...] = (
        {"weight": 1.0},
        {"quota": Quota()},
        {"labels": {}},
        {"display_name": ""},
    )
    for other in changes:
        with pytest.raises(AlreadyExists):
            await tenants.create(SETTINGS.model_copy(update=other))


async def test_a_tenant_created_many_times_at_once_exists_once(tenants: TenantStore) -> None:
    created = await asyncio.gather(*(tenants.create(SETTINGS) for _ in range(12)))
    assert len(set(map(str, created))) == 1


async def test_a_missing_tenant_is_not_found(tenants: TenantStore) -> None:
    for call in (tenants.get("none"), tenants.update("none", weight=2), tenants.set_state("none", TenantState.ACTIVE)):
        with pytest.raises(NotFound) as missing:
            await call
        assert (missing.value.resource_type, missing.value.resource_name) == ("tenant", "none")


async def test_tenants_are_listed_by_slug_in_pages_that_survive_inserts(tenants: TenantStore) -> None:
    for slug in ("ab", "a-c", "a1", "b0", "aa"):
        await tenants.create(NewTenant(slug=slug))
    first, token = await tenants.list(page_size=2)
    await tenants.create(NewTenant(slug="a-a"))
    second, token = await tenants.list(2, token)
    third, end = await tenants.list(page_size=2, page_token=token)
    assert [[t.slug for t in page] for page in (first, second, third)] == [["a-c", "a1"], ["aa", "ab"], ["b0"]]
    assert end == ""


async def test_an_update_changes_only_what_it_names(tenants: TenantStore) -> None:
    await tenants.create(SETTINGS)
    before = await tenants.set_state("acme", TenantState.ACTIVE)
    changed = await tenants.update("acme", quota={"max_active_jobs": 5})
    assert changed == before.model_copy(update={"quota": Quota(max_job_cpus=8, max_active_jobs=5)})
    changed = await tenants.update("acme", display_name="", weight=4.0)
    assert (changed.display_name, changed.weight, changed.quota.max_job_cpus) == ("", 4.0, 8)
    assert await tenants.update("acme", quota=Quota()) == changed.model_copy(update={"quota": Quota()})
    assert await tenants.get("acme") == changed.model_copy(update={"quota": Quota()})


async def test_a_changed_quota_holds_at_once_where_it_was_changed(tenants: TenantStore, acme: str) -> None:
    assert await tenants.quota(acme) == Quota()
    await tenants.update(acme, quota={"max_active_jobs": 5})
    assert (await tenants.quota(acme)).max_active_jobs == 5
    with pytest.raises(NotFound):
        await tenants.quota("nobody")


async def test_updates_at_once_lose_none(tenants: TenantStore, acme: str) -> None:
    await asyncio.gather(*(tenants.get(acme) for _ in range(4)))  # opens as many connections
    for value in range(1_000_000_000, 1_000_000_005):
        wanted = dict.fromkeys(Quota.model_fields, value)
        await asyncio.gather(*(tenants.update(acme, quota={limit: value}) for limit in wanted))
        assert (await tenants.get(acme)).quota == Quota(**wanted)


async def test_a_value_out_of_its_range_is_refused_by_its_path(tenants: TenantStore, acme: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await tenants.update(acme, weight=math.nan, quota={"max_job_cpus": 0, "max_gpus": 1})
    assert set(refused.value.violations) == {"weight", "quota.max_job_cpus", "quota.max_gpus"}
    assert (await tenants.get(acme)).quota == Quota()


async def test_only_an_active_tenant_can_be_changed(tenants: TenantStore) -> None:
    await tenants.create(SETTINGS)
    with pytest.raises(FailedPrecondition):
        await tenants.update("acme", weight=3.0)


async def test_a_removed_tenant_takes_its_keys_and_datasets_along(
    tenants: TenantStore, keys: KeyStore, datasets: DatasetStore, database: Database, acme: str
) -> None:
    await keys.issue(acme, role=Role.OWNER, name="ann")
    administrator = await keys.issue(None, role=Role.ADMINISTRATOR, name="root")
    await datasets.put(acme, dataset("x", labels={"a": "1"}))
    await tenants.remove(acme)
    await tenants.remove(acme)
    async with database.read() as session:
        for table in (DatasetRow, DatasetNameRow, DatasetLabelRow):
            assert (await session.execute(table.__table__.select())).all() == []
    assert (await keys.list(None))[0] == (administrator.key,)
