"""What the gateway asks of the scheduler, so that everything but the scheduler stays free of Temporal."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from mlops.jobs.dataset import Ingested, IngestJob
from mlops.jobs.inference import BatchInferencePlan
from mlops.jobs.job import Job, JobEvent, JobFilter, JobPage
from mlops.jobs.training import TrainingPlan
from mlops.tenants.provisioning import Provider


class SchedulerPort(Protocol):
    """The jobs of every tenant, by tenant. Every method may raise SchedulerUnavailable."""

    @property
    def provider(self) -> Provider:
        """Makes and removes what the scheduler keeps of a tenant."""
        ...

    async def start_training(
        self, tenant: str, *, job_id: str, owner: str, plan: TrainingPlan, fingerprint: str
    ) -> Job:
        """Starts the job, or returns the one that the same request started. Raises RequestIdReused."""
        ...

    async def start_batch(
        self, tenant: str, *, job_id: str, owner: str, plan: BatchInferencePlan, fingerprint: str
    ) -> Job:
        """The same for a batch inference."""
        ...

    async def retry_job(self, tenant: str, job_id: str, *, by: str) -> Job:
        """Runs a failed or cancelled job again; one that runs is returned as it is.

        Raises NotFound, and FailedPrecondition for one that has succeeded.
        """
        ...

    async def find_submission(self, tenant: str, job_id: str, fingerprint: str) -> Job | None:
        """The job that this very request started. Raises RequestIdReused where another request started it."""
        ...

    async def get_job(self, tenant: str, job_id: str) -> Job:
        """The job with plan, steps, and result or failure. Raises NotFound."""
        ...

    async def list_jobs(self, tenant: str, filter: JobFilter, *, page_size: int, page_token: str) -> JobPage:
        """One page, newest first, with counts by state. Raises InvalidRequest for a foreign page token."""
        ...

    def watch_job(self, tenant: str, job_id: str, cursor: str) -> AsyncGenerator[JobEvent, None]:
        """The job's events behind the cursor, until it has ended. Raises NotFound, InvalidRequest."""
        ...

    async def ended_job(self, tenant: str, job_id: str) -> Job:
        """The job, as soon as it has ended. Raises NotFound."""
        ...

    async def cancel_job(self, tenant: str, job_id: str, *, reason: str, by: str) -> Job:
        """Asks the job to stop; one that has ended is returned as it is. Raises NotFound."""
        ...

    async def delete_job(self, tenant: str, job_id: str) -> None:
        """Forgets an ended job. Raises NotFound, and FailedPrecondition while it runs."""
        ...

    async def active_jobs(self, tenant: str) -> int:
        """How many jobs of the tenant have not ended."""
        ...

    async def dataset_in_use(self, tenant: str, dataset_id: str) -> bool:
        """Whether a job that has not ended uses the dataset."""
        ...

    async def ingest(self, tenant: str, job: IngestJob) -> Ingested:
        """Takes in a source and waits for it. Raises what the workers raised: DataInvalid, NotFound, …"""
        ...
