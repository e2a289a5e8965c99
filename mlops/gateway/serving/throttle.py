"""How many predictions a tenant may have under way, and how many a second. Each gateway counts for itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from cachetools import LRUCache

from mlops.errors import QuotaExceeded
from mlops.gateway.serving.kept import Kept
from mlops.tenants.store import TenantStore
from mlops.tenants.tenant import Quota

# One of them ends within about this time.
CONCURRENCY_RETRY_SECONDS = 0.1
TENANTS = 10_000


@dataclass(kw_only=True)
class Meter:
    """One tenant's: a bucket of a second's predictions that refills all the time, and those under way.

    Not `limits`: its store keeps a list of all hits and starts a thread every ten milliseconds, which took a tenth of
    the gateway's time.
    """

    tokens: float
    at: float
    running: int = 0

    def take(self, per_second: int, now: float) -> float:
        """0 where one more may be made, else how many seconds later it may."""
        self.tokens = min(self.tokens + (now - self.at) * per_second, per_second)
        self.at = now
        if self.tokens < 1:
            return (1 - self.tokens) / per_second
        self.tokens -= 1
        return 0.0


class Throttle:
    """The limits of every tenant, as they were within the last two seconds."""

    def __init__(self, tenants: TenantStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        async def look_up(tenant: str, last: Quota | None) -> Quota:
            return await tenants.quota(tenant)

        self._quotas: Kept[str, Quota] = Kept(look_up, fresh=timedelta(seconds=1), stale=timedelta(seconds=2))
        self._clock = clock
        self._meters: LRUCache[str, Meter] = LRUCache(TENANTS)

    async def quota(self, tenant: str) -> Quota:
        """What the tenant may use. Raises NotFound."""
        return await self._quotas.get(tenant)

    @contextmanager
    def admitted(self, tenant: str, quota: Quota) -> Iterator[None]:
        """Counts a prediction for as long as the block lasts. Raises QuotaExceeded, with the limit's name."""
        now = self._clock()
        meter = self._meters.get(tenant)
        if meter is None:
            meter = self._meters[tenant] = Meter(tokens=quota.max_predictions_per_second, at=now)
        if meter.running >= quota.max_concurrent_predictions:
            raise QuotaExceeded(
                f"{meter.running} predictions of this tenant are under way, which is as many as may",
                limit="max_concurrent_predictions",
                retry_after_seconds=CONCURRENCY_RETRY_SECONDS,
            )
        wait = meter.take(quota.max_predictions_per_second, now)
        if wait:
            raise QuotaExceeded(
                f"this tenant may make {quota.max_predictions_per_second} predictions a second",
                limit="max_predictions_per_second",
                retry_after_seconds=wait,
            )
        meter.running += 1
        try:
            yield
        finally:
            meter.running -= 1
