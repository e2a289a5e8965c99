"""Looking at a model's traffic rule, and changing it."""

from __future__ import annotations

from mlops.errors import InvalidRequest
from mlops.gateway.serving.router import Router, selector
from mlops.jobs.serving import Traffic, TrafficRule
from mlops.tenants.traffic import TrafficStore
from mlops.tracking.protocol import Tracking


class Rules:
    """Rules of every tenant's models, by tenant."""

    def __init__(self, *, tracking: Tracking, router: Router, traffic: TrafficStore) -> None:
        self._tracking = tracking
        self._router = router
        self._traffic = traffic

    async def get(self, tenant: str, model: str) -> Traffic:
        """A model's rule, empty where it has none. Raises NotFound for the model."""
        await self._tracking.get_model(tenant, model)
        return await self._traffic.get(tenant, model) or Traffic()

    async def set(self, tenant: str, model: str, rule: TrafficRule) -> None:
        """Sets a model's rule; an empty one removes it.

        Raises NotFound for the model and for a version or an alias that the rule names; InvalidRequest for shares
        without a challenger; and what keeps a version from being predicted with (FailedPrecondition).
        """
        await self._tracking.get_model(tenant, model)
        if not rule.challenger and (rule.challenger_share or rule.shadow_share):
            raise InvalidRequest.of("rule.challenger", "is required where a share of the requests goes to it")
        for text in (rule.champion, rule.challenger):
            if text:
                await self._router.warm(tenant, model, selector(text))
        await self._traffic.set(tenant, model, rule)
        self._router.forget_rule(tenant, model)
