"""The jobs of the caller's tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from mlops import errors, names
from mlops.client.connection import Connection
from mlops.client.download import Download, DownloadProgress, ResultPart, directory_for, result_part
from mlops.client.paging import pages
from mlops.client.watch import watch_job
from mlops.jobs.inference import BatchInferenceSpec, ValidatedBatch
from mlops.jobs.job import Job, JobEvent, JobFilter, JobKind, JobPage, JobState, Validated
from mlops.jobs.training import TrainingSpec
from mlops.v1 import jobs_pb2
from mlops.wire.convert import build, parse
from mlops.wire.jobs import parse_page

MemberT = TypeVar("MemberT", bound=StrEnum)


class AsyncJobs:
    """`client.jobs`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def submit(self, spec: TrainingSpec, request_id: str | None = None) -> Job:
        """Submits a training and returns the job that was accepted.

        request_id: becomes the job's id; a fresh one where it is left out. The same spec under the same id is
        the same job, however often it is sent. Raises InvalidRequest, NotFound, RequestIdReused, QuotaExceeded.
        """
        request = jobs_pb2.SubmitTrainingRequest(
            request_id=request_id or names.new_job_id("train"), spec=build(jobs_pb2.TrainingSpec, spec)
        )
        response = await self._connection.call(self._connection.jobs.SubmitTraining, request)
        return parse(response.job, Job)

    async def validate(self, spec: TrainingSpec) -> Validated:
        """Checks a training as `submit` does and returns what would be done; starts nothing."""
        request = jobs_pb2.ValidateTrainingRequest(spec=build(jobs_pb2.TrainingSpec, spec))
        return parse(await self._connection.call(self._connection.jobs.ValidateTraining, request), Validated)

    async def submit_batch(self, spec: BatchInferenceSpec, request_id: str | None = None) -> Job:
        """Submits a batch inference and returns the job that was accepted; `request_id` as for `submit`.

        Raises InvalidRequest, NotFound, RequestIdReused, QuotaExceeded, FailedPrecondition.
        """
        request = jobs_pb2.SubmitBatchInferenceRequest(
            request_id=request_id or names.new_job_id("batch"), spec=build(jobs_pb2.BatchInferenceSpec, spec)
        )
        response = await self._connection.call(self._connection.jobs.SubmitBatchInference, request)
        return parse(response.job, Job)

    async def validate_batch(self, spec: BatchInferenceSpec) -> ValidatedBatch:
        """Checks a batch inference as `submit_batch` does and returns what would be done; starts nothing."""
        request = jobs_pb2.ValidateBatchInferenceRequest(spec=build(jobs_pb2.BatchInferenceSpec, spec))
        response = await self._connection.call(self._connection.jobs.ValidateBatchInference, request)
        return parse(response, ValidatedBatch)

    async def get(self, job_id: str) -> Job:
        """The job with its plan, progress, result or failure. Raises NotFound."""
        request = jobs_pb2.GetJobRequest(job_id=job_id)
        return parse((await self._connection.call(self._connection.jobs.GetJob, request)).job, Job)

    async def list(
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
    ) -> AsyncIterator[Job]:
        """The jobs that match everything given, newest first, without their plans and results.

        name: exact, or a prefix with a trailing "*". Further pages are fetched as the iteration reaches them.
        """
        filter = _filter(states, kinds, name, owner, labels, created_after, created_before)

        async def fetch(token: str) -> tuple[Sequence[Job], str]:
            page = await self.page(filter, page_size=page_size, page_token=token)
            return page.jobs, page.next_page_token

        async for job in pages(fetch):
            yield job

    async def page(self, filter: JobFilter | None = None, *, page_size: int = 100, page_token: str = "") -> JobPage:
        """One page of jobs, with the counts by state."""
        request = jobs_pb2.ListJobsRequest(
            filter=build(jobs_pb2.JobFilter, filter or JobFilter()), page_size=page_size, page_token=page_token
        )
        return parse_page(await self._connection.call(self._connection.jobs.ListJobs, request))

    async def counts(
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
        filter = _filter((), kinds, name, owner, labels, created_after, created_before)
        page = await self.page(filter, page_size=1)
        return {state: page.counts.get(state, 0) for state in JobState}

    async def watch(self, job_id: str, cursor: str = "") -> AsyncIterator[JobEvent]:
        """What happens to a job, from its start or behind `cursor`, until its end. Reconnects by itself."""
        async for event in watch_job(self._connection, job_id, cursor=cursor):
            yield event

    async def wait(self, job_id: str) -> Job:
        """Waits for the end of a job and returns it, however it ended. Reconnects by itself. Raises NotFound."""
        async for event in watch_job(self._connection, job_id, end_only=True):
            if event.job is not None:
                return event.job
        raise errors.Internal(f"the watch of job {job_id!r} ended without its last event")

    async def cancel(self, job_id: str, reason: str = "") -> Job:
        """Asks a job to stop and returns it at once. An ended job stays as it is. Raises NotFound."""
        request = jobs_pb2.CancelJobRequest(job_id=job_id, reason=reason)
        return parse((await self._connection.call(self._connection.jobs.CancelJob, request)).job, Job)

    async def retry(self, job_id: str) -> Job:
        """Runs a failed or cancelled job again, under its id, and returns it; what it had finished is kept.

        A job that runs is returned as it is. Raises NotFound, FailedPrecondition for one that has succeeded,
        QuotaExceeded.
        """
        request = jobs_pb2.RetryJobRequest(job_id=job_id)
        return parse((await self._connection.call(self._connection.jobs.RetryJob, request)).job, Job)

    async def download(
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
        wanted = result_part(part)
        job = await self.get(job_id)
        if job.batch_result is None:
            reason = "is a training" if job.kind is JobKind.TRAINING else f"is {job.state}"
            raise errors.FailedPrecondition(
                f"job {job_id!r} {reason}; files are there of a batch inference that has succeeded"
            )
        download = Download(
            self._connection,
            job_id,
            directory_for(to),
            wanted,
            job.batch_result,
            overwrite=overwrite,
            progress=progress,
        )
        await download.run()
        return tuple(download.files)

    async def delete(self, job_id: str) -> None:
        """Deletes an ended job and its files; its model stays. Raises NotFound, FailedPrecondition while it runs."""
        request = jobs_pb2.DeleteJobRequest(job_id=job_id)
        await self._connection.remove(self._connection.jobs.DeleteJob, request)


def _filter(
    states: Iterable[JobState | str],
    kinds: Iterable[JobKind | str],
    name: str,
    owner: str,
    labels: Mapping[str, str] | None,
    created_after: datetime | None,
    created_before: datetime | None,
) -> JobFilter:
    try:
        return JobFilter(
            states=_members(JobState, states),
            kinds=_members(JobKind, kinds),
            name=name,
            owner=owner,
            labels=dict(labels or {}),
            # A time without a zone is the caller's local time.
            created_after=created_after.astimezone() if created_after else None,
            created_before=created_before.astimezone() if created_before else None,
        )
    except ValidationError as exc:
        violations = {str(problem["loc"][0]): problem["msg"] for problem in exc.errors(include_url=False)}
        listed = "; ".join(f"{field}: {problem}" for field, problem in violations.items())
        raise errors.InvalidRequest(f"invalid filter: {listed}", violations=violations) from exc


def _members(kind: type[MemberT], given: Iterable[MemberT | str]) -> tuple[MemberT, ...]:
    values = (given,) if isinstance(given, str) else tuple(given)
    field = kind.__name__.removeprefix("Job").lower()  # as the options are called: state, kind
    known = ", ".join(kind)
    for value in values:
        if value not in tuple(kind):
            raise errors.InvalidRequest.of(field, f"{str(value)!r} is none of {known}")
    return tuple(kind(value) for value in values)
