"""Online predictions as one part of the gateway: what it is made of, started and stopped together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

from mlops.gateway.serving.figures import Figures
from mlops.gateway.serving.hosts import Hosts
from mlops.gateway.serving.predictions import Predictions
from mlops.gateway.serving.router import Router
from mlops.gateway.serving.shadow import Shadow
from mlops.gateway.serving.throttle import Throttle
from mlops.repository.repository import ModelRepository
from mlops.tenants.database import Database, now
from mlops.tenants.store import TenantStore
from mlops.tenants.traffic import TrafficStore


class Online:
    """Call `start` before the first prediction, and `stop` in the end."""

    def __init__(
        self, *, repository: ModelRepository, tenants: TenantStore, database: Database, targets: Sequence[str]
    ) -> None:
        """targets: host:port of the serving hosts."""
        self.traffic = TrafficStore(database)
        self.hosts = Hosts(targets)
        self.figures = Figures(now)
        self.router = Router(repository, self.traffic, self.hosts)
        self._shadow = Shadow(self.traffic)
        self.predictions = Predictions(
            router=self.router,
            hosts=self.hosts,
            throttle=Throttle(tenants),
            shadow=self._shadow,
            figures=self.figures,
        )
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Connects to the hosts, as far as they are there."""
        await self._stack.enter_async_context(self.hosts)
        await self._stack.enter_async_context(self._shadow)

    async def stop(self) -> None:
        """Writes down what was seen, and ends the connections."""
        await self._stack.aclose()
