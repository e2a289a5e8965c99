"""Orders of a batch job's activities. Pure functions."""

from __future__ import annotations

from mlops.jobs.inference import BatchJob, BatchOrder


def batch_order(job: BatchJob, step: str) -> BatchOrder:
    """The order of one step."""
    return BatchOrder(tenant=job.tenant, job_id=job.job_id, owner=job.owner, plan_sha256=job.plan_sha256, step=step)
