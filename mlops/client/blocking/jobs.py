"""The jobs of the caller's tenant, for synchronous programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from mlops.client.blocking.loop import LoopThread
from mlops.client.download import DownloadProgress, ResultPart
from mlops.client.jobs import AsyncJobs
from mlops.jobs.inference import BatchInferenceSpec, ValidatedBatch
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

    def submit_batch(self, spec: BatchInferenceSpec, request_id: str | None = None) -> Job:
        """Submits a batch inference and returns the job that was accepted; `request_id` as for `submit`.

        Raises InvalidRequest, NotFound, RequestIdReused, QuotaExceeded, FailedPrecondition.
        """
        return self._loop.run(self._jobs.submit_batch(spec, request_id))

    def validate_batch(self, spec: BatchInferenceSpec) -> ValidatedBatch:
        """Checks a batch inference as `submit_batch` does and returns what would be done; starts nothing."""
        return self._loop.run(self._jobs.validate_batch(spec))

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

    def retry(self, job_id: str) -> Job:
        """Runs a failed or cancelled job again, under its id, and returns it; what it had finished is kept.

        A job that runs is returned as it is. Raises NotFound, FailedPrecondition for one that has succeeded,
        QuotaExceeded.
        """
        return self._loop.run(self._jobs.retry(job_id))

    def download(
        self,
        job_id: str,
        to: str | Path = ".",
        part: ResultPart | str = ResultPart.PREDICTIONS,
        *,
        overwrite: bool = False,
        progress: DownloadProgress | None = None,
    ) -> tuple[Path, ...]:
        """Fetches the files of a batch job's result into a directory, and returns their paths in the rows' order.

        part: "predictions" or "rejects". overwrite: whether files of the same names may be replaced. progress: called
        with (bytes received, bytes in all). A file has its name only once it is whole; goes on behind the last whole
        file when the connection breaks. Raises NotFound, FailedPrecondition before the job has succeeded,
        AlreadyExists, ChecksumMismatch where not the announced bytes arrive.
        """
        return self._loop.run(self._jobs.download(job_id, to, part, overwrite=overwrite, progress=progress))

    def delete(self, job_id: str) -> None:
        """Deletes an ended job and its files; its model stays. Raises NotFound, FailedPrecondition while it runs."""
        self._loop.run(self._jobs.delete(job_id))
