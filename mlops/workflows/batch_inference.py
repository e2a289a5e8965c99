"""The batch workflow: input and model in place, shards planned and predicted, one manifest that commits them all."""

from __future__ import annotations

from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy

with workflow.unsafe.imports_passed_through():
    from mlops import names
    from mlops.jobs.inference import BatchJob, BatchOutcome, ShardsDone, ShardsJob, ShardsPlanned
    from mlops.jobs.job import JobState
    from mlops.workflows import policies
    from mlops.workflows.cancellation import go_on
    from mlops.workflows.failures import as_application_error, failure_of, is_cancelled_exception
    from mlops.workflows.orders import batch_order
    from mlops.workflows.shards import ShardsWorkflow
    from mlops.workflows.states import show
    from mlops.workflows.stubs import BatchCpuActivities, BatchIoActivities


@workflow.defn(name=names.BATCH_WORKFLOW)
class BatchInferenceWorkflow:
    """One batch job. Until the manifest is written readers see nothing, so that there is nothing to undo.

    Shards that are in storage stay there when it fails: a retry of the job runs just what is missing.
    """

    @workflow.run
    async def run(self, job: BatchJob) -> BatchOutcome:
        """Runs the job; fails with a failure report."""
        show(JobState.RUNNING)
        try:
            return await _predict(job)
        except BaseException as error:
            if is_cancelled_exception(error):
                show(JobState.CANCELLING)
                raise
            raise as_application_error(failure_of(error)) from error


async def _predict(job: BatchJob) -> BatchOutcome:
    if job.copies_input:
        await workflow.execute_activity_method(
            BatchIoActivities.copy_input,
            batch_order(job, names.COPY_STEP),
            activity_id=names.COPY_STEP,
            **policies.copy(),
        )
        go_on()
    planned: ShardsPlanned = await workflow.execute_activity_method(
        BatchCpuActivities.plan_shards,
        batch_order(job, names.PLAN_STEP),
        activity_id=names.PLAN_STEP,
        **policies.cpu(job),
    )
    go_on()
    await _shards(job, planned)
    go_on()
    await workflow.execute_activity_method(
        BatchCpuActivities.summarise_batch,
        batch_order(job, names.SUMMARISE_STEP),
        activity_id=names.SUMMARISE_STEP,
        **policies.cpu(job),
    )
    go_on()
    return await workflow.execute_activity_method(
        BatchIoActivities.commit_batch,
        batch_order(job, names.COMMIT_STEP),
        activity_id=names.COMMIT_STEP,
        **policies.io(),
    )


async def _shards(job: BatchJob, planned: ShardsPlanned) -> ShardsDone:
    """In a workflow of their own, so that the job's history stays as long as its steps are many."""
    return await workflow.execute_child_workflow(
        ShardsWorkflow.run,
        ShardsJob(job=job, shards=planned.shards, rows=planned.rows),
        id=names.shards_workflow(job.job_id),
        # A job that is tried again runs its shards again.
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
    )
