"""A step on an IO host: its wall, its beating heart, its errors as Temporal carries them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mlops import errors
from mlops.activities.failures import translated
from mlops.activities.heartbeat import Heartbeat
from mlops.jobs.job import StepState
from mlops.storage.objects import ObjectStore
from mlops.storage.sources import SourceRoots
from mlops.tracking.protocol import Tracking


@dataclass(frozen=True, kw_only=True)
class IoHost:
    """What all tenants of an IO worker share."""

    store: ObjectStore
    sources: SourceRoots
    tracking: Tracking


class IoSteps:
    """What the IO activities of one tenant are made of."""

    def __init__(self, host: IoHost, *, tenant: str) -> None:
        self._host = host
        self._tenant = tenant

    @asynccontextmanager
    async def _step(self, tenant: str, step: str) -> AsyncIterator[Heartbeat]:
        """Errors as Temporal carries them, a beating heart, and the wall: an order for another tenant is refused."""
        with translated(step):
            if tenant != self._tenant:
                raise errors.PermissionDenied(f"An order for tenant {tenant!r} arrived in the namespace of another")
            async with Heartbeat(step) as beat:
                beat.show(StepState.RUNNING)
                yield beat
