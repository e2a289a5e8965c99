"""A job's events as they come: its history by long poll, and the numbers of its running steps in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHandle

from mlops import errors
from mlops.gateway.scheduler.heartbeats import Heartbeats, Steps
from mlops.gateway.scheduler.history import JobHistory, parse_cursor
from mlops.gateway.scheduler.translate import translated
from mlops.jobs.job import JobEvent, StepProgress, StepState


async def watch(
    handle: WorkflowHandle[Any, Any],
    heartbeats: Heartbeats,
    history: JobHistory,
    *,
    tenant: str,
    job_id: str,
    cursor: str,
) -> AsyncGenerator[JobEvent, None]:
    """Yields what happened behind the cursor and what happens next, until the job has ended; fills the history.

    Raises NotFound, InvalidRequest for a cursor that is none, SchedulerUnavailable when Temporal goes away.
    """
    place, latest = parse_cursor(cursor), cursor
    inbox = _Inbox(handle, job_id)
    shown: dict[str, StepProgress] = {}
    try:
        with heartbeats.watched(tenant, job_id, inbox.beat):
            while not history.state.is_final:
                news = await inbox.get()
                if isinstance(news, HistoryEvent):
                    for event in history.feed(news):
                        if parse_cursor(event.cursor) > place:
                            latest = event.cursor
                            yield event
                    continue
                for step in news:
                    told = history.steps.get(step.step)
                    if told is not None and told.state is StepState.SCHEDULED and shown.get(step.step, told) != step:
                        shown[step.step] = step
                        yield JobEvent(cursor=latest, time=datetime.now(UTC), step=step)
    finally:
        inbox.close()


class _Inbox:
    """History events one by one; of heartbeats only the newest, however slowly they are read."""

    def __init__(self, handle: WorkflowHandle[Any, Any], job_id: str) -> None:
        self._queue: asyncio.Queue[HistoryEvent | Exception | None] = asyncio.Queue()
        self._steps: Steps | None = None
        self._reader = asyncio.create_task(self._read(handle, job_id))

    async def get(self) -> HistoryEvent | Steps:
        """The next event, or what the steps are at; raises what ended the reading."""
        news = await self._queue.get()
        if isinstance(news, Exception):
            raise news
        if news is not None:
            return news
        steps, self._steps = self._steps, None
        return steps or ()

    def beat(self, steps: Steps) -> None:
        """Takes what the steps are at."""
        if self._steps is None:
            self._queue.put_nowait(None)
        self._steps = steps

    def close(self) -> None:
        """Stops reading."""
        self._reader.cancel()

    async def _read(self, handle: WorkflowHandle[Any, Any], job_id: str) -> None:
        try:
            with translated("job", job_id):
                async for event in handle.fetch_history_events(wait_new_event=True):
                    self._queue.put_nowait(event)
            self._queue.put_nowait(errors.NotFound.of("job", job_id))
        except Exception as error:  # noqa: BLE001  # raised again by `get`, in the watcher's own task
            self._queue.put_nowait(error)
