"""The jobs of the caller's tenant, for synchronous programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from mlops.client.blocking.loop import LoopThread
from mlops.client.jobs import AsyncJobs
from mlops.jobs.job import Job, JobEvent, JobFilter, JobKind, JobPage, JobState, Validated
from mlops.jobs.training import TrainingSpec


class Jobs:
    """`client.jobs`."""

    def __init__(self, loop: LoopThread, jobs: AsyncJobs) -> None:
        self._loop = loop
        self._jobs = jobs

    def submit(self, spec: TrainingSpec, request_id: str | None = None) -> Job:
        """Submits a training and returns the job that was accepted.

        request_id: becomes the job's id; a fresh one where it is left out. The same spec under the same id is
        the same job, however often it is sent. Raises InvalidRequest, NotFound, RequestIdReused, QuotaExceeded.
        """
        return self._loop.run(self._jobs.submit(spec, request_id))

    def validate(self, spec: TrainingSpec) -> Validated:
        """Checks a training as `submit` does and returns what would be done; starts nothing."""
        return self._loop.run(self._jobs.validate(spec))

    def get(self, job_id: str) -> Job:
        """The job with its plan, progress, result or failure. Raises NotFound."""
        return self._loop.run(self._jobs.get(job_id))

    def list(
        self,
        *,
        states: Iterable[JobState | str] = (),
        kinds: Iterable[JobKind | str] = (),
        name: str = "",
        owner: str = "",
        labels: Mapping[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        page_size: int = 100,
    ) -> Iterator[Job]:
        """The jobs that match everything given, newest first, without their plans and results.

        name: exact, or a prefix with a trailing "*". Further pages are fetched as the iteration reaches them.
        """
        yield from self._loop.iterate(
            self._jobs.list(
                states=states,
                kinds=kinds,
                name=name,
                owner=owner,
                labels=labels,
                created_after=created_after,
                created_before=created_before,
                page_size=page_size,
            )
        )

    def page(self, filter: JobFilter | None = None, *, page_size: int = 100, page_token: str = "") -> JobPage:
        """One page of jobs, with the counts by state."""
        return self._loop.run(self._jobs.page(filter, page_size=page_size, page_token=page_token))

    def counts(
        self,
        *,
        kinds: Iterable[JobKind | str] = (),
        name: str = "",
        owner: str = "",
        labels: Mapping[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> dict[JobState, int]:
        """How many jobs stand in each state, of those that match everything given. Every state has an entry."""
        return self._loop.run(
            self._jobs.counts(
                kinds=kinds,
                name=name,
                owner=owner,
                labels=labels,
                created_after=created_after,
                created_before=created_before,
            )
        )

    def watch(self, job_id: str, cursor: str = "") -> Iterator[JobEvent]:
        """What happens to a job, from its start or behind `cursor`, until its end. Reconnects by itself."""
        yield from self._loop.iterate(self._jobs.watch(job_id, cursor))

    def wait(self, job_id: str) -> Job:
        """Waits for the end of a job and returns it, however it ended. Reconnects by itself. Raises NotFound."""
        return self._loop.run(self._jobs.wait(job_id))

    def cancel(self, job_id: str, reason: str = "") -> Job:
        """Asks a job to stop and returns it at once. An ended job stays as it is. Raises NotFound."""
        return self._loop.run(self._jobs.cancel(job_id, reason))

    def delete(self, job_id: str) -> None:
        """Deletes an ended job and its files; its model stays. Raises NotFound, FailedPrecondition while it runs."""
        self._loop.run(self._jobs.delete(job_id))
