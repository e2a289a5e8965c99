"""The limit on unfinished jobs: exact where it is near, and not asked about where it is far."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mlops.errors import QuotaExceeded
from mlops.gateway.backlog import Backlog


class Counted:
    """A scheduler's count, and how often it was asked for."""

    def __init__(self, active: int) -> None:
        self.active = active
        self.asked = 0

    async def __call__(self, tenant: str) -> int:
        self.asked += 1
        return self.active


async def test_far_below_the_limit_the_scheduler_is_asked_once() -> None:
    count = Counted(0)
    backlog = Backlog(count, ttl=timedelta(minutes=1))
    for _ in range(50):
        await backlog.admit("acme", 100)
    assert count.asked == 1


async def test_no_more_than_the_limit_are_let_in() -> None:
    count = Counted(0)
    backlog = Backlog(count, ttl=timedelta(minutes=1))
    for _ in range(3):
        await backlog.admit("acme", 3)
        count.active += 1
    with pytest.raises(QuotaExceeded) as refused:
        await backlog.admit("acme", 3)
    assert (refused.value.limit, refused.value.retry_after_seconds) == ("max_active_jobs", 30.0)
    # One ended: the next count says so.
    count.active -= 1
    await backlog.admit("acme", 3)


async def test_a_limit_of_none_lets_nothing_in() -> None:
    with pytest.raises(QuotaExceeded):
        await Backlog(Counted(0)).admit("acme", 0)


async def test_what_other_gateways_let_in_is_seen_with_the_next_count() -> None:
    count = Counted(0)
    backlog = Backlog(count, ttl=timedelta(0))
    await backlog.admit("acme", 5)
    count.active = 5
    with pytest.raises(QuotaExceeded):
        await backlog.admit("acme", 5)


async def test_each_tenant_has_its_own_backlog() -> None:
    count = Counted(0)
    backlog = Backlog(count, ttl=timedelta(minutes=1))
    await backlog.admit("acme", 1)
    await backlog.admit("globex", 1)
    assert count.asked == 2
