"""The Jobs service."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime

from mlops import names
from mlops.errors import InvalidRequest, NotFound
from mlops.gateway.access import tenant_of
from mlops.gateway.batches import Batches, BatchSubmission
from mlops.gateway.ports import SchedulerPort
from mlops.gateway.results import Results
from mlops.gateway.submissions import Submission, Submissions
from mlops.jobs.inference import BatchInferenceSpec
from mlops.jobs.job import JobEvent, JobFilter
from mlops.jobs.pages import page_size
from mlops.jobs.training import TrainingSpec
from mlops.storage.objects import ObjectStore
from mlops.tenants.tenant import Principal
from mlops.v1 import jobs_pb2 as pb
from mlops.wire.convert import build, parse
from mlops.wire.jobs import build_event, build_page

# The scheduler makes one query of it.
MAX_FILTER_BYTES = 16 * 1024
MAX_REASON_CHARS = 1000
# No job was created before the one or is created after the other: a bound beyond them says nothing more.
_FIRST, _LAST = datetime(1970, 1, 2, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


class Jobs:
    """Serves mlops.v1.Jobs."""

    def __init__(
        self,
        *,
        scheduler: SchedulerPort,
        submissions: Submissions,
        batches: Batches,
        results: Results,
        objects: ObjectStore,
    ) -> None:
        self._scheduler = scheduler
        self._submissions = submissions
        self._batches = batches
        self._results = results
        self._objects = objects

    async def submit_training(self, caller: Principal, request: pb.SubmitTrainingRequest) -> pb.SubmitTrainingResponse:
        """Accepts a training job."""
        asked = parse(request, Submission)
        job = await self._submissions.submit(tenant_of(caller), caller.name, asked)
        return pb.SubmitTrainingResponse(job=build(pb.Job, job))

    async def validate_training(
        self, caller: Principal, request: pb.ValidateTrainingRequest
    ) -> pb.ValidateTrainingResponse:
        """The plan that a spec resolves to."""
        spec = parse(request.spec, TrainingSpec, prefix="spec")
        validated = await self._submissions.validate(tenant_of(caller), spec)
        return build(pb.ValidateTrainingResponse, validated)

    async def submit_batch_inference(
        self, caller: Principal, request: pb.SubmitBatchInferenceRequest
    ) -> pb.SubmitBatchInferenceResponse:
        """Accepts a batch inference."""
        asked = parse(request, BatchSubmission)
        job = await self._batches.submit(tenant_of(caller), caller.name, asked)
        return pb.SubmitBatchInferenceResponse(job=build(pb.Job, job))

    async def validate_batch_inference(
        self, caller: Principal, request: pb.ValidateBatchInferenceRequest
    ) -> pb.ValidateBatchInferenceResponse:
        """The plan that a batch spec resolves to."""
        spec = parse(request.spec, BatchInferenceSpec, prefix="spec")
        validated = await self._batches.validate(tenant_of(caller), spec)
        return build(pb.ValidateBatchInferenceResponse, validated)

    async def retry_job(self, caller: Principal, request: pb.RetryJobRequest) -> pb.RetryJobResponse:
        """Runs a job again that did not succeed."""
        job = await self._batches.retry(tenant_of(caller), _job_id(request.job_id), by=caller.name)
        return pb.RetryJobResponse(job=build(pb.Job, job))

    async def download_result(
        self, caller: Principal, request: pb.DownloadResultRequest
    ) -> AsyncGenerator[pb.DownloadResultResponse, None]:
        """The files of a batch job's result."""
        pieces = self._results.stream(
            tenant_of(caller),
            _job_id(request.job_id),
            rejects=request.part == pb.RESULT_PART_REJECTS,
            skip_files=request.skip_files,
        )
        async with aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, bytes):
                    yield pb.DownloadResultResponse(chunk=piece)
                else:
                    yield pb.DownloadResultResponse(file=build(pb.ResultFile, piece))

    async def get_job(self, caller: Principal, request: pb.GetJobRequest) -> pb.GetJobResponse:
        """One job, whole."""
        job = await self._scheduler.get_job(tenant_of(caller), _job_id(request.job_id))
        return pb.GetJobResponse(job=build(pb.Job, job))

    async def list_jobs(self, caller: Principal, request: pb.ListJobsRequest) -> pb.ListJobsResponse:
        """One page of jobs, with counts."""
        selected, size = _filter(request.filter), page_size(request.page_size)
        page = await self._scheduler.list_jobs(
            tenant_of(caller), selected, page_size=size, page_token=request.page_token
        )
        return build_page(page)

    async def watch_job(
        self, caller: Principal, request: pb.WatchJobRequest
    ) -> AsyncGenerator[pb.WatchJobResponse, None]:
        """A job's events, until it has ended."""
        tenant, job_id = tenant_of(caller), _job_id(request.job_id)
        if request.end_only:
            job = await self._scheduler.ended_job(tenant, job_id)
            yield build_event(JobEvent(cursor=request.cursor, time=job.finished_at or datetime.now(UTC), job=job))
            return
        events = self._scheduler.watch_job(tenant, job_id, request.cursor)
        async with aclosing(events):
            async for event in events:
                yield build_event(event)

    async def cancel_job(self, caller: Principal, request: pb.CancelJobRequest) -> pb.CancelJobResponse:
        """Asks a job to stop."""
        if len(request.reason) > MAX_REASON_CHARS:
            raise InvalidRequest.of("reason", f"must have at most {MAX_REASON_CHARS} characters")
        job = await self._scheduler.cancel_job(
            tenant_of(caller), _job_id(request.job_id), reason=request.reason, by=caller.name
        )
        return pb.CancelJobResponse(job=build(pb.Job, job))

    async def delete_job(self, caller: Principal, request: pb.DeleteJobRequest) -> pb.DeleteJobResponse:
        """Deletes an ended job, then its files: what a crash in between leaves over goes with the tenant."""
        tenant, job_id = tenant_of(caller), _job_id(request.job_id)
        await self._scheduler.delete_job(tenant, job_id)
        await self._objects.delete_prefix(names.job_prefix(tenant, job_id))
        return pb.DeleteJobResponse()


def _job_id(text: str) -> str:
    """A text that cannot be a job's id names none."""
    if not names.JOB_ID.fullmatch(text):
        raise NotFound.of("job", text)
    return text


def _filter(message: pb.JobFilter) -> JobFilter:
    if message.ByteSize() > MAX_FILTER_BYTES:
        raise InvalidRequest.of("filter", f"is larger than {MAX_FILTER_BYTES} bytes")
    selected = parse(message, JobFilter, prefix="filter")
    bounds = {"created_after": selected.created_after, "created_before": selected.created_before}
    return selected.model_copy(
        update={name: min(max(time, _FIRST), _LAST) for name, time in bounds.items() if time is not None}
    )
