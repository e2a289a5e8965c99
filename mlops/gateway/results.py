"""The files that a batch job ended with, streamed: all of a result, or nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from mlops import names
from mlops.errors import FailedPrecondition, InvalidRequest
from mlops.gateway.ports import SchedulerPort
from mlops.jobs.inference import BatchReport, ResultFile
from mlops.jobs.job import JobState
from mlops.storage.objects import ObjectStore

CHUNK_BYTES = 1024 * 1024


class Results:
    """Reads results of batch jobs."""

    def __init__(self, *, scheduler: SchedulerPort, objects: ObjectStore) -> None:
        self._scheduler = scheduler
        self._objects = objects

    async def stream(
        self, tenant: str, job_id: str, *, rejects: bool, skip_files: int
    ) -> AsyncGenerator[ResultFile | bytes, None]:
        """Each file's description, then its bytes in chunks; behind the files that the caller has already.

        Raises NotFound, FailedPrecondition for a job that has not succeeded or is none with files, and
        InvalidRequest for more files to skip than there are.
        """
        report = await self._report(tenant, job_id)
        files = report.rejects if rejects else report.files
        if not 0 <= skip_files <= len(files):
            raise InvalidRequest.of("skip_files", f"is {skip_files}, and there are {len(files)} files")
        folder = names.result_prefix(tenant, job_id)
        for file in files[skip_files:]:
            yield file
            async with aclosing(self._objects.read_chunks(f"{folder}/{file.name}", CHUNK_BYTES)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def _report(self, tenant: str, job_id: str) -> BatchReport:
        """What the job ended with. Its state decides: one that was cancelled while it committed has no result."""
        job = await self._scheduler.get_job(tenant, job_id)
        if job.batch_result is None or job.state is not JobState.SUCCEEDED:
            what = f"is {job.state}" if job.batch_plan is not None else "is a training, which ends in a model"
            raise FailedPrecondition(f"Job {job_id!r} {what}; only a batch job that has succeeded has files")
        return job.batch_result.report
