"""The training workflow: fits in parallel, a report, a run, a version; and all of it undone if it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from mlops import names
    from mlops.jobs.job import JobState
    from mlops.jobs.report import StepResult, TrainingOutcome
    from mlops.jobs.tracking import EndedRun, LoggedModel, RegisteredVersion, RegisterOrder, RunStatus, StartedRun
    from mlops.jobs.training import StepOrder, TrainingJob
    from mlops.workflows import policies
    from mlops.workflows.cancellation import go_on
    from mlops.workflows.failures import as_application_error, failure_of, is_cancelled_exception
    from mlops.workflows.states import show
    from mlops.workflows.stubs import CpuActivities, IoActivities

EXPORT_PATCH = "export-to-onnx"


@workflow.defn(name=names.TRAINING_WORKFLOW)
class TrainingWorkflow:
    """One training job, from its plan to a registered version."""

    @workflow.run
    async def run(self, job: TrainingJob) -> TrainingOutcome:
        """Runs the job; a failure or a cancellation ends the run and leaves no version behind."""
        show(JobState.RUNNING)
        try:
            return await _train(job)
        except BaseException as error:
            if is_cancelled_exception(error):
                show(JobState.CANCELLING)
                await _undo(job, RunStatus.KILLED, "cancelled")
                raise
            failure = failure_of(error)
            await _undo(job, RunStatus.FAILED, f"{failure.step}: {failure.message}")
            raise as_application_error(failure) from error


async def _train(job: TrainingJob) -> TrainingOutcome:
    run = await _all(_start_run(job), _final_fit(job), *_folds(job))
    await workflow.execute_activity_method(
        CpuActivities.evaluate,
        _order(job, names.EVALUATE_STEP),
        activity_id=names.EVALUATE_STEP,
        **policies.cpu(job),
    )
    go_on()
    model: LoggedModel = await workflow.execute_activity_method(
        IoActivities.log_run, _order(job, names.LOG_STEP), activity_id=names.LOG_STEP, **policies.io()
    )
    go_on()
    version: RegisteredVersion | None = None
    if job.model_name is not None:
        version = await workflow.execute_activity_method(
            IoActivities.register_version,
            RegisterOrder(order=_order(job, names.REGISTER_STEP), run_id=run.run_id, model=model),
            activity_id=names.REGISTER_STEP,
            **policies.io(),
        )
        go_on()
    await workflow.execute_activity_method(
        IoActivities.end_run,
        EndedRun(tenant=job.tenant, job_id=job.job_id, status=RunStatus.FINISHED, run_id=run.run_id),
        activity_id=names.FINISH_STEP,
        **policies.io(),
    )
    return TrainingOutcome(
        run_id=run.run_id,
        experiment_id=run.experiment_id,
        model_uri=f"models:/{version.model_name}/{version.version}" if version else model.uri,
        model_name=version.model_name if version else None,
        model_version=version.version if version else None,
    )


def _order(job: TrainingJob, step: str, fold: int | None = None) -> StepOrder:
    return StepOrder(
        tenant=job.tenant,
        job_id=job.job_id,
        owner=job.owner,
        plan_sha256=job.plan_sha256,
        step=step,
        fold=fold,
    )


async def _final_fit(job: TrainingJob) -> StepResult:
    """The fit on all rows; then, while the last folds run, the export of its model.

    Only what is registered is ever asked for single predictions. A job from before the export goes on without it.
    """
    result = await _fit(job, names.FIT_STEP, None)
    if job.model_name is not None and workflow.patched(EXPORT_PATCH):
        await workflow.execute_activity_method(
            CpuActivities.export_model,
            _order(job, names.EXPORT_STEP),
            activity_id=names.EXPORT_STEP,
            **policies.cpu(job),
        )
    return result


async def _start_run(job: TrainingJob) -> StartedRun:
    return await workflow.execute_activity_method(
        IoActivities.start_run, _order(job, names.START_RUN_STEP), activity_id=names.START_RUN_STEP, **policies.io()
    )


async def _fit(job: TrainingJob, step: str, fold: int | None) -> StepResult:
    return await workflow.execute_activity_method(
        CpuActivities.fit_step, _order(job, step, fold), activity_id=step, **policies.cpu(job)
    )


def _folds(job: TrainingJob) -> list[Coroutine[Any, Any, StepResult]]:
    return [_fit(job, names.fold_step(index), index) for index in range(job.folds)]


async def _all(first: Coroutine[Any, Any, StartedRun], *rest: Coroutine[Any, Any, StepResult]) -> StartedRun:
    """Waits for all of them; the first failure cancels the others and is raised once their cores are free."""
    run = asyncio.create_task(first)
    tasks: list[asyncio.Task[Any]] = [run, *(asyncio.create_task(step) for step in rest)]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    return run.result()


async def _undo(job: TrainingJob, status: RunStatus, message: str) -> None:
    """The one compensation: the version goes, the run ends.

    Neither a cancellation that comes now nor a failure of its own changes how the job ended.
    """
    undo = asyncio.create_task(
        workflow.execute_activity_method(
            IoActivities.end_run,
            EndedRun(
                tenant=job.tenant,
                job_id=job.job_id,
                status=status,
                model_name=job.model_name,
                message=message[:500],
            ),
            activity_id=names.UNDO_STEP,
            **policies.undo(),
        )
    )
    while not undo.done():
        try:
            await workflow.wait([undo])
        except asyncio.CancelledError:
            workflow.logger.info("cancelled once more; the compensation goes on")
    if undo.exception() is not None:
        workflow.logger.error("the compensation failed", exc_info=undo.exception())
