"""Accepting a batch inference: model, input, plan, quota, start; and starting jobs again."""

from __future__ import annotations

import asyncio

from mlops.errors import FailedPrecondition, InvalidRequest, NotFound
from mlops.gateway.ports import SchedulerPort
from mlops.gateway.quotas import Quotas
from mlops.gateway.submissions import RequestId
from mlops.jobs.batch_validation import Resolved, check_batch, resolve_batch
from mlops.jobs.dataset import Dataset
from mlops.jobs.inference import BatchInferenceSpec, ValidatedBatch
from mlops.jobs.job import Job
from mlops.jobs.validation import fingerprint
from mlops.jobs.value import Value
from mlops.repository.repository import ModelRepository
from mlops.storage.sources import SourceRoots
from mlops.tenants.datasets import DatasetStore


class BatchSubmission(Value):
    """A batch inference to start. The request id becomes the job's id."""

    request_id: RequestId
    spec: BatchInferenceSpec


class Batches:
    """Accepts batch inferences."""

    def __init__(
        self,
        *,
        scheduler: SchedulerPort,
        quotas: Quotas,
        datasets: DatasetStore,
        repository: ModelRepository,
        sources: SourceRoots,
    ) -> None:
        self._scheduler = scheduler
        self._quotas = quotas
        self._datasets = datasets
        self._repository = repository
        self._sources = sources

    async def submit(self, tenant: str, owner: str, asked: BatchSubmission) -> Job:
        """The accepted job; of a request that was accepted before, the job it started, whatever has changed by now.

        Raises InvalidRequest, NotFound, FailedPrecondition, RequestIdReused and QuotaExceeded.
        """
        digest = fingerprint(asked.spec)
        # An alias may have moved since the request was first sent: what was resolved then is what holds.
        known = await self._scheduler.find_submission(tenant, asked.request_id, digest)
        if known is not None:
            return known
        resolved = await self._resolve(tenant, asked.spec)
        await self._quotas.admit(tenant)
        return await self._scheduler.start_batch(
            tenant, job_id=asked.request_id, owner=owner, plan=resolved.plan, fingerprint=digest
        )

    async def validate(self, tenant: str, spec: BatchInferenceSpec) -> ValidatedBatch:
        """What a submission would do. Raises as `submit` does, but for the limit on active jobs."""
        resolved = await self._resolve(tenant, spec)
        plan = resolved.plan
        known = plan.rows is not None and plan.rows_per_shard is not None
        return ValidatedBatch(
            plan=plan,
            shards=-(-(plan.rows or 0) // (plan.rows_per_shard or 1)) if known else None,
            warnings=resolved.warnings,
        )

    async def retry(self, tenant: str, job_id: str, *, by: str) -> Job:
        """Runs a failed or cancelled job of any kind again.

        Raises NotFound, FailedPrecondition for one that has succeeded or whose dataset is gone, and QuotaExceeded.
        """
        job = await self._scheduler.get_job(tenant, job_id)
        if not job.state.is_final:
            return job
        if job.dataset_id:
            try:
                await self._datasets.get(tenant, job.dataset_id)
            except NotFound as error:
                raise FailedPrecondition(
                    f"the dataset {job.dataset_id!r} of job {job_id!r} was deleted; submit a new job"
                ) from error
        await self._quotas.admit(tenant)
        return await self._scheduler.retry_job(tenant, job_id, by=by)

    async def _resolve(self, tenant: str, spec: BatchInferenceSpec) -> Resolved:
        check_batch(spec)
        if spec.uri is not None:
            await self._check_source(tenant, spec.uri)
        version = await self._repository.resolve(tenant, spec.model, spec.version or spec.alias)
        quota, dataset = await asyncio.gather(self._quotas.of(tenant), self._dataset(tenant, spec))
        staged = await self._repository.stage(tenant, version)
        return await asyncio.to_thread(
            resolve_batch,
            spec,
            version=version,
            model_id=staged.model_id,
            card=staged.card,
            dataset=dataset,
            limits=self._quotas.limits(quota),
            max_bytes=quota.max_dataset_bytes,
        )

    async def _dataset(self, tenant: str, spec: BatchInferenceSpec) -> Dataset | None:
        return None if spec.dataset is None else await self._datasets.get_recent(tenant, spec.dataset)

    async def _check_source(self, tenant: str, uri: str) -> None:
        try:
            await asyncio.to_thread(self._sources.check, tenant, uri)
        except InvalidRequest as error:
            problem = next(iter(error.violations.values()), error.message)
            raise InvalidRequest.of("spec.uri", problem) from error
