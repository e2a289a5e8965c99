"""What jobs have in storage: their plans, and what they ended with."""

from __future__ import annotations

import hashlib
from typing import Any

from mlops import errors, names
from mlops.gateway.scheduler.jobs import Plan
from mlops.jobs.inference import BatchInferencePlan, BatchManifest, BatchOutcome, BatchResult
from mlops.jobs.job import JobKind
from mlops.jobs.report import TrainingOutcome, TrainingReport, TrainingResult
from mlops.jobs.training import TrainingPlan
from mlops.storage.objects import ObjectStore

_PLANS: dict[JobKind, type[Plan]] = {
    JobKind.TRAINING: TrainingPlan,
    JobKind.BATCH_INFERENCE: BatchInferencePlan,
}


class JobFiles:
    """Plans and results of jobs, by tenant."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def keep_plan(self, tenant: str, job_id: str, plan: Plan) -> str:
        """Stores a plan by its content, and returns its SHA-256 in hex."""
        text = plan.model_dump_json().encode()
        plan_sha256 = hashlib.sha256(text).hexdigest()
        await self._store.write_bytes(names.plan_key(tenant, job_id, plan_sha256), text)
        return plan_sha256

    async def plan(self, tenant: str, job_id: str, kind: JobKind, plan_sha256: str) -> Plan:
        """The plan; a job whose files are deleted is one no more. Raises NotFound."""
        try:
            text = await self._store.read_bytes(names.plan_key(tenant, job_id, plan_sha256))
        except errors.NotFound as error:
            raise errors.NotFound.of("job", job_id) from error
        return _PLANS[kind].model_validate_json(text)

    async def ended_with(
        self, tenant: str, job_id: str, outcome: TrainingOutcome | BatchOutcome | None
    ) -> dict[str, Any]:
        """The fields of the job that hold its result; none before it has succeeded."""
        if isinstance(outcome, TrainingOutcome):
            return {"result": await self._training(tenant, job_id, outcome)}
        if isinstance(outcome, BatchOutcome):
            return {"batch_result": await self._batch(tenant, job_id)}
        return {}

    async def _training(self, tenant: str, job_id: str, outcome: TrainingOutcome) -> TrainingResult:
        try:
            key = names.step_key(tenant, job_id, names.EVALUATE_STEP, names.STEP_REPORT)
            report = TrainingReport.model_validate_json(await self._store.read_bytes(key))
        except errors.NotFound:
            report = TrainingReport()
        return TrainingResult(report=report, **outcome.model_dump())

    async def _batch(self, tenant: str, job_id: str) -> BatchResult | None:
        folder = names.result_prefix(tenant, job_id)
        try:
            text = await self._store.read_bytes(f"{folder}/{names.MANIFEST_FILE}")
        except errors.NotFound:
            return None
        manifest = BatchManifest.model_validate_json(text)
        return BatchResult(
            report=manifest.report,
            model_name=manifest.model_name,
            model_version=manifest.model_version,
            uri=self._store.url_of(folder),
        )
