"""Delivers an activity's result even when Temporal is away at the moment it is ready.

The SDK's worker drops a completion that it cannot deliver within about ten seconds, and a fit that took
an hour would run again. So a long activity completes itself, for as long as its heartbeat timeout lets it.
"""

from __future__ import annotations

from typing import Any

import stamina
from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

AWAY = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.RESOURCE_EXHAUSTED)


async def deliver(client: Client, result: Any) -> None:
    """Completes the current activity with `result`; never returns normally.

    Raises what `activity.raise_complete_async` raises once the server has the result, or no longer wants it.
    """
    handle = client.get_async_activity_handle(task_token=activity.info().task_token)
    async for attempt in stamina.retry_context(on=_is_away, attempts=None, timeout=None, wait_max=2.0):
        with attempt:
            try:
                await handle.complete(result)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
    activity.raise_complete_async()


def _is_away(error: Exception) -> bool:
    return isinstance(error, RPCError) and error.status in AWAY
