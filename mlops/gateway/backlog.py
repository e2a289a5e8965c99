"""How many jobs of each tenant have not ended, counted when that may matter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from cachetools import TTLCache

from mlops.errors import QuotaExceeded
from mlops.tenants.lookups import SharedLookups

# When a full queue is worth another try: jobs take minutes.
RETRY_SECONDS = 30.0
COUNT_TTL = timedelta(seconds=1)
TENANTS = 10_000


class Backlog:
    """Keeps a tenant's unfinished jobs below its limit.

    A count of the scheduler, and every job let in since, is an upper bound of what this gateway let in: while that
    is below the limit, the scheduler is not asked. Other gateways' jobs are seen with the next count, a second
    later at most, and submissions at the very same moment may pass together. It bounds a tenant's backlog, and is
    no account that has to add up.
    """

    def __init__(self, count: Callable[[str], Awaitable[int]], *, ttl: timedelta = COUNT_TTL) -> None:
        self._count = count
        self._known: TTLCache[str, list[int]] = TTLCache(TENANTS, ttl.total_seconds())
        self._counts = SharedLookups(self._recount)

    async def admit(self, tenant: str, limit: int) -> None:
        """Lets one more job in. Raises QuotaExceeded where as many as the limit have not ended."""
        known = self._known.get(tenant)
        if known is None or known[0] >= limit:
            known = await self._counts.get(tenant)
            if known[0] >= limit:
                raise QuotaExceeded(
                    f"{known[0]} jobs have not ended, and the tenant may have {limit}; wait for one to end",
                    limit="max_active_jobs",
                    retry_after_seconds=RETRY_SECONDS,
                )
        known[0] += 1

    async def _recount(self, tenant: str) -> list[int]:
        known = self._known[tenant] = [await self._count(tenant)]
        return known
