"""Keeps an activity's heart beating with the newest progress, which is what a watcher sees."""

from __future__ import annotations

import asyncio
import contextlib
import time
from types import TracebackType
from typing import Self

from temporalio import activity

from mlops.jobs.job import StepProgress, StepState

# A cancellation reaches an activity with the answer to a heartbeat: this bounds how long a core stays taken.
INTERVAL_SECONDS = 0.3
# A step that has long been at it beats less often: each beat costs the server some 4 ms of a core, of which a
# fit may be in need.
LONGEST_INTERVAL_SECONDS = 0.6
# A step that waits holds no core, and has nothing to say.
WAITING_INTERVAL_SECONDS = 1.5
SETTLED_AFTER_SECONDS = 15.0


def interval(state: StepState, seconds: float) -> float:
    """Seconds to the next beat of a step that has been in its state for so long."""
    if seconds < SETTLED_AFTER_SECONDS:
        return INTERVAL_SECONDS
    return WAITING_INTERVAL_SECONDS if state is StepState.WAITING else LONGEST_INTERVAL_SECONDS


class Heartbeat:
    """`async with Heartbeat("fold-3") as beat:` beats until the block ends; `beat.show(…)` says how far it is."""

    def __init__(self, step: str) -> None:
        self._progress = StepProgress(step=step, state=StepState.WAITING, attempt=activity.info().attempt)
        self._since = time.monotonic()
        # Set when the step's state changes, which a watcher is told at once.
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def step(self) -> str:
        """The step whose heart it is."""
        return self._progress.step

    def show(
        self,
        state: StepState,
        fraction: float | None = None,
        message: str = "",
        values: dict[str, float] | None = None,
    ) -> None:
        """What the next beat carries. A new state is a reason for one."""
        if state is not self._progress.state:
            self._since = time.monotonic()
            self._changed.set()
        self._progress = self._progress.model_copy(
            update={"state": state, "fraction": fraction, "message": message, "values": values or {}}
        )

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _beat(self) -> None:
        while True:
            self._changed.clear()
            activity.heartbeat(self._progress)
            pause = interval(self._progress.state, time.monotonic() - self._since)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), pause)
