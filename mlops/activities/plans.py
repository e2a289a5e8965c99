"""Plans are stored once a job, and read by each of its activities."""

from __future__ import annotations

from mlops import names
from mlops.jobs.inference import BatchInferencePlan, BatchOrder
from mlops.jobs.training import StepOrder, TrainingPlan
from mlops.storage.objects import ObjectStore


async def read_plan(store: ObjectStore, order: StepOrder) -> TrainingPlan:
    """The plan that the gateway wrote when it accepted the job."""
    return TrainingPlan.model_validate_json(
        await store.read_bytes(names.plan_key(order.tenant, order.job_id, order.plan_sha256))
    )


async def read_batch_plan(store: ObjectStore, order: BatchOrder) -> BatchInferencePlan:
    """The same of a batch job."""
    return BatchInferencePlan.model_validate_json(
        await store.read_bytes(names.plan_key(order.tenant, order.job_id, order.plan_sha256))
    )
