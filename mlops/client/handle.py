"""A submitted job in the caller's hand."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import Field

from mlops import errors
from mlops.client.quantities import parse_duration
from mlops.jobs.inference import BatchResult, FeatureDrift
from mlops.jobs.job import Job, JobEvent, JobKind, JobState
from mlops.jobs.report import MetricSummary, TrainingResult
from mlops.jobs.value import Value

if TYPE_CHECKING:
    from mlops.client.jobs import AsyncJobs

ResultT = TypeVar("ResultT")


class JobMetrics(Value):
    """The numbers of a job, as far as there are any.

    scores: one number a scorer: on the hold-out rows where there are any, else the mean over the folds; of a batch
    inference, against the target column that it was given. drift: of a batch inference, how far each feature has
    moved from the training data. steps: the latest numbers of each step that is under way.
    """

    state: JobState
    scores: dict[str, float] = Field(default_factory=dict)
    holdout: dict[str, float] = Field(default_factory=dict)
    cross_validation: tuple[MetricSummary, ...] = ()
    drift: tuple[FeatureDrift, ...] = ()
    steps: dict[str, dict[str, float]] = Field(default_factory=dict)


def metrics_of(job: Job) -> JobMetrics:
    """What a job reports in numbers."""
    report = job.result.report if job.result else None
    means = {summary.name: summary.mean for summary in report.cross_validation} if report else {}
    batch = job.batch_result.report if job.batch_result else None
    return JobMetrics(
        state=job.state,
        scores=means | (report.holdout if report else {}) | (batch.scores if batch else {}),
        holdout=report.holdout if report else {},
        cross_validation=report.cross_validation if report else (),
        drift=batch.drift if batch else (),
        steps={step.step: step.values for step in job.steps if step.values},
    )


def outcome(job: Job) -> TrainingResult | BatchResult:
    """The result of an ended job, of either kind. Raises JobFailed or JobCancelled where there is none."""
    if job.kind is JobKind.BATCH_INFERENCE:
        return _expected(job, job.batch_result)
    return _expected(job, job.result)


def _expected(job: Job, result: ResultT | None) -> ResultT:
    if job.state is JobState.CANCELLED:
        raise errors.JobCancelled(f"job {job.id!r} was cancelled", job_id=job.id)
    failure = job.failure
    if failure is not None:
        kind = f"{failure.error_class}: " if failure.error_class else ""
        raise errors.JobFailed(
            f"job {job.id!r} failed in step {failure.step!r}: {kind}{failure.message.rstrip('.')}."
            + (f" Try: {failure.hint}" if failure.hint else ""),
            step=failure.step,
            hint=failure.hint,
            job_id=job.id,
            failure_reason=failure.reason,
            error_class=failure.error_class,
        )
    if result is None:
        raise errors.JobFailed(f"job {job.id!r} ended in state {job.state} without a result", job_id=job.id)
    return result


class AsyncHandle(Generic[ResultT]):
    """A job that can be waited for, watched and cancelled. `job` is what was last heard of it."""

    def __init__(self, jobs: AsyncJobs, job: Job) -> None:
        self._jobs = jobs
        self._job = job

    @property
    def id(self) -> str:
        """The job's id: enough to find it again with `client.job(id)`, from any process."""
        return self._job.id

    @property
    def job(self) -> Job:
        """The job as it was last heard of; `refresh` asks again."""
        return self._job

    @property
    def status(self) -> JobState:
        """The state as it was last heard of; `refresh` asks again."""
        return self._job.state

    async def refresh(self) -> Job:
        """Asks how the job stands."""
        self._job = await self._jobs.get(self.id)
        return self._job

    async def wait(self, timeout: timedelta | float | str | None = None) -> ResultT:  # noqa: ASYNC109 - the blocking twin's name
        """Waits for the end of the job and returns its result.

        timeout: seconds, a timedelta or a text such as "10m"; None waits as long as it takes. The job goes on
        when the wait ends early. Raises JobFailed, JobCancelled, or DeadlineExceeded after the timeout.
        """
        if not self._job.state.is_final or (self._known() is None and self._job.failure is None):
            seconds = None if timeout is None else parse_duration(timeout, field="timeout").total_seconds()
            try:
                async with asyncio.timeout(seconds):
                    self._job = await self._jobs.wait(self.id)
            except TimeoutError as exc:
                raise errors.DeadlineExceeded(
                    f"job {self.id!r} is still {self._job.state} after {seconds:g} s; it goes on, wait again for it",
                    job_id=self.id,
                ) from exc
        return _expected(self._job, self._known())

    async def watch(self, cursor: str = "") -> AsyncIterator[JobEvent]:
        """What happens to the job, from its start or behind `cursor`, until its end.

        Survives lost connections and restarts of the gateway without losing or doubling an event. The last event
        holds the whole job; a failed job does not raise here.
        """
        async for event in self._jobs.watch(self.id, cursor):
            if event.job is not None:
                self._job = event.job
            elif event.state is not None:
                self._job = self._job.model_copy(update={"state": event.state})
            yield event

    async def metrics(self) -> JobMetrics:
        """The job's numbers as they stand now."""
        return metrics_of(await self.refresh())

    async def cancel(self, reason: str = "") -> Job:
        """Asks the job to stop and returns at once; `wait` then raises JobCancelled. An ended job stays as it is."""
        self._job = await self._jobs.cancel(self.id, reason)
        return self._job

    async def retry(self) -> Job:
        """Runs the failed or cancelled job again, under its id; what it had finished is kept. `wait` waits anew.

        A job that runs stays as it is. Raises FailedPrecondition for one that has succeeded, QuotaExceeded.
        """
        self._job = await self._jobs.retry(self.id)
        return self._job

    async def delete(self) -> None:
        """Deletes the ended job and its files; its model stays. Raises FailedPrecondition while it runs."""
        await self._jobs.delete(self.id)

    @abstractmethod
    def _known(self) -> ResultT | None:
        """The result, as far as it is known."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status}>"


class AsyncJobHandle(AsyncHandle[TrainingResult]):
    """A training job. `wait` gives its TrainingResult."""

    @property
    def result(self) -> TrainingResult | None:
        """What the job ended with, as far as is known; `wait` waits for it."""
        return self._job.result

    def _known(self) -> TrainingResult | None:
        return self._job.result
