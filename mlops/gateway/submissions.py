"""Accepting a training job: dataset, plan, quota, start."""

from __future__ import annotations

import asyncio
from typing import Annotated

from pydantic import AfterValidator

from mlops import names
from mlops.errors import InvalidRequest, NotFound, QuotaExceeded
from mlops.gateway.ports import SchedulerPort
from mlops.gateway.quotas import Quotas
from mlops.jobs.dataset import Dataset
from mlops.jobs.job import Job, Validated, steps_of
from mlops.jobs.training import TrainingPlan, TrainingSpec
from mlops.jobs.validation import fingerprint, resolve, warnings_of
from mlops.jobs.value import Value
from mlops.tenants.datasets import DatasetStore
from mlops.tenants.tenant import Quota

# A plan of so many columns is resolved in less than a millisecond.
QUICK_COLUMNS = 200


def _job_id(text: str) -> str:
    if not names.JOB_ID.fullmatch(text):
        raise ValueError("must be 1-63 of a-z, 0-9 and inner hyphens")
    return text


RequestId = Annotated[str, AfterValidator(_job_id)]


class Submission(Value):
    """A training job to start. The request id becomes the job's id."""

    request_id: RequestId
    spec: TrainingSpec


class Submissions:
    """Accepts training jobs."""

    def __init__(self, *, scheduler: SchedulerPort, quotas: Quotas, datasets: DatasetStore) -> None:
        self._scheduler = scheduler
        self._quotas = quotas
        self._datasets = datasets

    async def submit(self, tenant: str, owner: str, asked: Submission) -> Job:
        """The accepted job; of a request that was accepted before, the job it started, whatever is full by now.

        Raises InvalidRequest, NotFound, RequestIdReused and QuotaExceeded.
        """
        digest = fingerprint(asked.spec)
        try:
            quota, dataset = await self._look_up(tenant, asked.spec)
            plan = await self._resolve(asked.spec, dataset, quota)
            await self._quotas.admit(tenant)
        except (InvalidRequest, NotFound, QuotaExceeded):
            known = await self._scheduler.find_submission(tenant, asked.request_id, digest)
            if known is None:
                raise
            return known
        return await self._scheduler.start_training(
            tenant, job_id=asked.request_id, owner=owner, plan=plan, fingerprint=digest
        )

    async def validate(self, tenant: str, spec: TrainingSpec) -> Validated:
        """What a submission would do. Raises as `submit` does, but for the limit on active jobs."""
        quota, dataset = await self._look_up(tenant, spec)
        plan = await self._resolve(spec, dataset, quota)
        return Validated(plan=plan, steps=steps_of(plan), warnings=warnings_of(plan, dataset))

    async def _look_up(self, tenant: str, spec: TrainingSpec) -> tuple[Quota, Dataset]:
        quota = await self._quotas.of(tenant)
        return quota, await self._datasets.get_recent(tenant, spec.dataset)

    async def _resolve(self, spec: TrainingSpec, dataset: Dataset, quota: Quota) -> TrainingPlan:
        limits = self._quotas.limits(quota)
        if len(dataset.profile.columns) + len(spec.features) <= QUICK_COLUMNS:
            return resolve(spec, dataset, limits)
        # Thousands of columns take tens of milliseconds, which no other call should wait for.
        return await asyncio.to_thread(resolve, spec, dataset, limits)
