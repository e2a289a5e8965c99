"""Traffic rules are stored alike in SQLite and in PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from mlops.errors import NotFound
from mlops.jobs.serving import ShadowFigures, TrafficRule
from mlops.tenants.database import Database
from mlops.tenants.store import TenantStore
from mlops.tenants.traffic import TrafficStore
from tests.fixtures.database import Clock, active

RULE = TrafficRule(champion="3", challenger="candidate", challenger_share=0.25, shadow_share=0.5)
SEEN = ShadowFigures(compared_rows=10, differing_rows=2, mean_difference=0.5, max_difference=0.75, skipped_requests=1)


@pytest.fixture
def traffic(database: Database, clock: Clock) -> TrafficStore:
    return TrafficStore(database, clock=clock.now)


async def test_a_rule_is_returned_as_it_was_set(traffic: TrafficStore, acme: str, clock: Clock) -> None:
    assert await traffic.get(acme, "churn") is None
    await traffic.set(acme, "churn", RULE)
    found = await traffic.get(acme, "churn")
    assert found is not None
    assert found.rule == RULE
    assert found.shadow == ShadowFigures(since=clock.now())
    assert await traffic.get(acme, "other") is None


async def test_an_empty_rule_removes_it(traffic: TrafficStore, acme: str) -> None:
    await traffic.set(acme, "churn", RULE)
    await traffic.set(acme, "churn", TrafficRule())
    assert await traffic.get(acme, "churn") is None
    await traffic.set(acme, "churn", TrafficRule())


async def test_what_gateways_have_seen_adds_up(traffic: TrafficStore, acme: str) -> None:
    await traffic.set(acme, "churn", RULE)
    found = await traffic.get(acme, "churn")
    assert found is not None
    assert found.shadow.since is not None
    other = SEEN.model_copy(update={"compared_rows": 30, "mean_difference": 0.1, "max_difference": 0.25})
    await asyncio.gather(*(traffic.add(acme, "churn", found.shadow.since, seen) for seen in (SEEN, other)))
    found = await traffic.get(acme, "churn")
    assert found is not None
    assert (found.shadow.compared_rows, found.shadow.differing_rows, found.shadow.skipped_requests) == (40, 4, 2)
    assert found.shadow.mean_difference == pytest.approx((10 * 0.5 + 30 * 0.1) / 40)
    assert found.shadow.max_difference == 0.75


async def test_another_rule_begins_anew_and_what_was_seen_under_the_old_one_is_not_counted(
    traffic: TrafficStore, acme: str, clock: Clock
) -> None:
    await traffic.set(acme, "churn", RULE)
    old = await traffic.get(acme, "churn")
    assert old is not None
    assert old.shadow.since is not None
    await traffic.add(acme, "churn", old.shadow.since, SEEN)
    clock.pass_time(timedelta(seconds=5))
    await traffic.set(acme, "churn", RULE)
    same = await traffic.get(acme, "churn")
    assert same is not None
    assert same.shadow.compared_rows == 10
    await traffic.set(acme, "churn", RULE.model_copy(update={"shadow_share": 1.0}))
    await traffic.add(acme, "churn", old.shadow.since, SEEN)
    new = await traffic.get(acme, "churn")
    assert new is not None
    assert new.shadow == ShadowFigures(since=clock.now())


async def test_rules_are_a_tenants_own_and_go_with_it(traffic: TrafficStore, acme: str, tenants: TenantStore) -> None:
    globex = await active(tenants, "globex")
    await traffic.set(acme, "churn", RULE)
    assert await traffic.get(globex, "churn") is None
    await tenants.remove(acme)
    assert await traffic.get(acme, "churn") is None
    with pytest.raises(NotFound):
        await traffic.set(acme, "churn", RULE)
