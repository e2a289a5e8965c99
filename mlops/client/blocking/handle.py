"""A submitted job in the hand of a synchronous program."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Generic

from mlops.client.blocking.loop import LoopThread
from mlops.client.handle import AsyncHandle, AsyncJobHandle, JobMetrics, ResultT
from mlops.jobs.job import Job, JobEvent, JobState
from mlops.jobs.report import TrainingResult


class Handle(Generic[ResultT]):
    """A job that can be waited for, watched and cancelled. `job` is what was last heard of it."""

    def __init__(self, loop: LoopThread, handle: AsyncHandle[ResultT]) -> None:
        self._loop = loop
        self._handle = handle

    @property
    def id(self) -> str:
        """The job's id: enough to find it again with `client.job(id)`, from any process."""
        return self._handle.id

    @property
    def job(self) -> Job:
        """The job as it was last heard of; `refresh` asks again."""
        return self._handle.job

    @property
    def status(self) -> JobState:
        """The state as it was last heard of; `refresh` asks again."""
        return self._handle.status

    def refresh(self) -> Job:
        """Asks how the job stands."""
        return self._loop.run(self._handle.refresh())

    def wait(self, timeout: timedelta | float | str | None = None) -> ResultT:
        """Waits for the end of the job and returns its result.

        timeout: seconds, a timedelta or a text such as "10m"; None waits as long as it takes. The job goes on
        when the wait ends early. Raises JobFailed, JobCancelled, or DeadlineExceeded after the timeout.
        """
        return self._loop.run(self._handle.wait(timeout))

    def watch(self, cursor: str = "") -> Iterator[JobEvent]:
        """What happens to the job, from its start or behind `cursor`, until its end.

        Survives lost connections and restarts of the gateway without losing or doubling an event. The last event
        holds the whole job; a failed job does not raise here.
        """
        yield from self._loop.iterate(self._handle.watch(cursor))

    def metrics(self) -> JobMetrics:
        """The job's numbers as they stand now."""
        return self._loop.run(self._handle.metrics())

    def cancel(self, reason: str = "") -> Job:
        """Asks the job to stop and returns at once; `wait` then raises JobCancelled. An ended job stays as it is."""
        return self._loop.run(self._handle.cancel(reason))

    def retry(self) -> Job:
        """Runs the failed or cancelled job again, under its id; what it had finished is kept. `wait` waits anew.

        A job that runs stays as it is. Raises FailedPrecondition for one that has succeeded, QuotaExceeded.
        """
        return self._loop.run(self._handle.retry())

    def delete(self) -> None:
        """Deletes the ended job and its files; its model stays. Raises FailedPrecondition while it runs."""
        self._loop.run(self._handle.delete())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status}>"


class JobHandle(Handle[TrainingResult]):
    """A training job. `wait` gives its TrainingResult."""

    _handle: AsyncJobHandle

    def __init__(self, loop: LoopThread, handle: AsyncJobHandle) -> None:
        super().__init__(loop, handle)

    @property
    def result(self) -> TrainingResult | None:
        """What the job ended with, as far as is known; `wait` waits for it."""
        return self._handle.result
