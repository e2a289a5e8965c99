"""Opening the scheduler: the one connection to Temporal that all tenants share."""

from __future__ import annotations

from datetime import timedelta

import stamina
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from mlops.errors import SchedulerUnavailable
from mlops.gateway.scheduler.scheduler import Scheduler
from mlops.storage.objects import ObjectStore

CONNECT_SECONDS = 120.0


async def open_scheduler(address: str, store: ObjectStore, *, retention: timedelta) -> Scheduler:
    """The scheduler on Temporal's frontend at host:port, waiting up to two minutes for one that is still starting.

    Raises SchedulerUnavailable.
    """
    try:
        async for attempt in stamina.retry_context(
            on=(RuntimeError, RPCError), attempts=None, timeout=CONNECT_SECONDS, wait_max=2.0
        ):
            with attempt:
                client = await Client.connect(address, data_converter=pydantic_data_converter)
                return Scheduler(client, store, retention=retention)
    except (RuntimeError, RPCError) as error:
        raise SchedulerUnavailable(f"Temporal does not answer at {address}: {error}") from error
    raise SchedulerUnavailable(f"Temporal does not answer at {address}")
