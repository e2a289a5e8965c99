"""Numbers from inside a running step: one poller a watched job, shared by all who watch it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.contrib.pydantic import pydantic_data_converter

from mlops.jobs.job import StepProgress, StepState

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 0.25
# A job that has been watched for a while is looked at less often, about as often as its steps' hearts beat: each
# look costs the server some milliseconds of a core.
LATER_INTERVAL_SECONDS = 0.6
SETTLED_AFTER_SECONDS = 15.0

Steps = tuple[StepProgress, ...]
Look = Callable[[str, str], Awaitable[Steps]]


def steps_at_work(description: DescribeWorkflowExecutionResponse) -> Steps:
    """The steps that are under way, with what their last heartbeat said."""
    found = []
    for pending in description.pending_activities:
        progress = StepProgress(step=pending.activity_id, state=StepState.SCHEDULED, attempt=max(pending.attempt, 1))
        started = pending.state != PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
        if started and pending.heartbeat_details.payloads:
            told = pydantic_data_converter.payload_converter.from_payloads(
                pending.heartbeat_details.payloads, [StepProgress]
            )[0]
            # What an earlier try said says nothing of this one.
            if told.attempt == progress.attempt:
                progress = told
        elif started:
            progress = progress.model_copy(update={"state": StepState.RUNNING})
        found.append(progress)
    return tuple(found)


Listener = Callable[[Steps], None]


@dataclass
class _Poller:
    task: asyncio.Task[None]
    listeners: list[Listener] = field(default_factory=list)


class Heartbeats:
    """Looks at each watched job every quarter of a second, later on less often, once for all of its watchers."""

    def __init__(self, look: Look) -> None:
        """look: what a tenant's job is at."""
        self._look = look
        self._pollers: dict[tuple[str, str], _Poller] = {}

    @contextmanager
    def watched(self, tenant: str, job_id: str, listener: Listener) -> Iterator[None]:
        """Tells the listener what is under way, for as long as the block runs."""
        key = (tenant, job_id)
        poller = self._pollers.get(key)
        if poller is None:
            poller = self._pollers[key] = _Poller(asyncio.create_task(self._poll(tenant, job_id)))
        poller.listeners.append(listener)
        try:
            yield
        finally:
            poller.listeners.remove(listener)
            if not poller.listeners:
                poller.task.cancel()
                del self._pollers[key]

    async def _poll(self, tenant: str, job_id: str) -> None:
        begun = time.monotonic()
        while True:
            is_settled = time.monotonic() - begun >= SETTLED_AFTER_SECONDS
            await asyncio.sleep(LATER_INTERVAL_SECONDS if is_settled else INTERVAL_SECONDS)
            try:
                steps = await self._look(tenant, job_id)
            except Exception as error:  # noqa: BLE001  # the history decides what watchers are told; progress pauses
                log.warning("no progress to be had", tenant=tenant, job_id=job_id, error=str(error))
                continue
            for listener in self._pollers[(tenant, job_id)].listeners:
                listener(steps)
