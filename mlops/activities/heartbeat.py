"""Keeps an activity's heart beating with the newest progress, which is what a watcher sees."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from temporalio import activity

from mlops.jobs.job import StepProgress, StepState

# A cancellation reaches an activity with the answer to a heartbeat: this bounds how long a core stays taken.
INTERVAL_SECONDS = 0.3


class Heartbeat:
    """`async with Heartbeat("fold-3") as beat:` beats until the block ends; `beat.show(…)` says how far it is."""

    def __init__(self, step: str) -> None:
        self._progress = StepProgress(step=step, state=StepState.WAITING, attempt=activity.info().attempt)
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
        """What the next beat carries."""
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
            activity.heartbeat(self._progress)
            await asyncio.sleep(INTERVAL_SECONDS)
