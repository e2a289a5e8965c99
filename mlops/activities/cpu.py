"""The CPU activities of training: each fetches its data, waits for its cores, and runs one function in a child."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from temporalio import activity
from temporalio.exceptions import ApplicationError

from mlops import errors, names
from mlops.activities.delivery import deliver
from mlops.activities.failures import translated
from mlops.activities.host import CpuSteps, Limits
from mlops.activities.plans import read_plan
from mlops.jobs.card import OnnxExport
from mlops.jobs.dataset import IngestedFiles, IngestTask
from mlops.jobs.report import Evaluated, StepResult, TrainingReport
from mlops.jobs.training import GIB, Resources, StepOrder, StepTask, TrainingPlan
from mlops.ml.evaluation import EvaluateCall, evaluate
from mlops.ml.ingest import IngestCall, ingest
from mlops.ml.onnx_export import ExportCall, export
from mlops.ml.training import StepCall, fit_step
from mlops.workflows import stubs

# Steps that took longer than this deliver their result themselves.
LONG_STEP_SECONDS = 5.0
INGEST_TRIES = 2
INGEST_MEMORY_BYTES = 4 * GIB
INGEST_TIME_LIMIT = timedelta(hours=6)
EXPORT_TIME_LIMIT = timedelta(minutes=5)


class CpuWork(CpuSteps, stubs.CpuActivities):
    """The CPU activities of one tenant's trainings."""

    @activity.defn
    async def ingest_dataset(self, task: IngestTask) -> IngestedFiles:
        """Reads stored bytes into the canonical Arrow file, the preview and the profile."""
        with translated(names.INGEST_STEP):
            self._check(task.tenant)
            store, blob = self._host.store, names.blob_key(task.tenant, task.sha256)
            if not await store.exists(names.dataset_profile_key(task.tenant, task.dataset_id)):
                async with self._work(names.INGEST_STEP) as (out, beat):
                    source = out.parent / "source"
                    await store.get_file(blob, source, share=True)
                    limits = Limits(
                        resources=Resources(memory_bytes=min(INGEST_MEMORY_BYTES, self._host.memory_bytes)),
                        time_limit=INGEST_TIME_LIMIT,
                        max_attempts=INGEST_TRIES,
                    )
                    outcome = await self._run(ingest, IngestCall(task=task, source=source, out=out), limits, beat)
                    (out / names.PROFILE_FILE).write_text(outcome.value.model_dump_json())
                    prefix = names.dataset_prefix(task.tenant, task.dataset_id)
                    await self._put(prefix, out, last=names.PROFILE_FILE)
            return IngestedFiles(dataset_id=task.dataset_id, sha256=task.sha256, size_bytes=await store.size(blob))

    @activity.defn
    async def fit_step(self, order: StepOrder) -> StepResult:
        """Fits and scores one fold, or the final model; a step that is in storage already is not done again."""
        with translated(order.step):
            self._check(order.tenant)
            prefix = names.step_prefix(order.tenant, order.job_id, order.step)
            done = await self._stored(f"{prefix}/{names.STEP_RESULT}", StepResult)
            seconds = 0.0
            if done is None:
                plan = await read_plan(self._host.store, order)
                async with self._work(order.step) as (out, beat), self._data(order, plan) as data:
                    call = StepCall(task=_task(order, plan), data=data, out=out)
                    outcome = await self._run(fit_step, call, Limits.of(plan), beat)
                    seconds = outcome.seconds
                    done = outcome.value.model_copy(update={"peak_memory_bytes": outcome.peak_memory_bytes})
                    (out / names.STEP_RESULT).write_text(done.model_dump_json())
                    await self._put(prefix, out)
                    if seconds > LONG_STEP_SECONDS:
                        await deliver(self._client, _without_progress(done))
            return _without_progress(done)

    @activity.defn
    async def evaluate(self, order: StepOrder) -> Evaluated:
        """Makes the report and the plots out of what the fits left in storage."""
        with translated(order.step):
            self._check(order.tenant)
            prefix = names.step_prefix(order.tenant, order.job_id, order.step)
            report = await self._stored(f"{prefix}/{names.STEP_REPORT}", TrainingReport)
            if report is None:
                plan = await read_plan(self._host.store, order)
                async with self._work(order.step) as (out, beat):
                    inputs = {
                        step: await self._results(order, step, out.parent / step)
                        for step in (names.FIT_STEP, *(names.fold_step(i) for i in range(plan.folds)))
                    }
                    call = EvaluateCall(task=_task(order, plan), inputs=inputs, out=out)
                    outcome = await self._run(evaluate, call, Limits.of(plan), beat)
                    report = outcome.value
                    await self._put(prefix, out, last=names.STEP_REPORT)
            return Evaluated(
                metrics={**{m.name: m.mean for m in report.cross_validation}, **report.holdout},
            )

    @activity.defn
    async def export_model(self, order: StepOrder) -> None:
        """Exports the final model to ONNX where that pays; what came of it is noted beside it."""
        with translated(order.step):
            self._check(order.tenant)
            prefix = names.step_prefix(order.tenant, order.job_id, order.step)
            if await self._stored(f"{prefix}/{names.ONNX_NOTES_FILE}", OnnxExport) is not None:
                return
            plan = await read_plan(self._host.store, order)
            async with self._work(order.step) as (out, beat), self._data(order, plan) as data:
                model = out.parent / "model"
                model.mkdir()
                for name in (names.STEP_MODEL, names.CARD_FILE):
                    key = names.step_key(order.tenant, order.job_id, names.FIT_STEP, name)
                    await self._host.store.get_file(key, model / name, share=True)
                call = ExportCall(task=_task(order, plan), data=data, model=model, out=out)
                limits = replace(Limits.of(plan), time_limit=min(plan.time_limit, EXPORT_TIME_LIMIT))
                try:
                    await self._run(export, call, limits, beat)
                except (errors.JobError, ApplicationError) as error:
                    if isinstance(error, ApplicationError) and not error.non_retryable:
                        raise
                    # The model is as good without it: what went wrong is noted, and the job goes on.
                    notes = OnnxExport(reason=f"the export failed: {error.message}")
                    (out / names.ONNX_FILE).unlink(missing_ok=True)
                    (out / names.ONNX_NOTES_FILE).write_text(notes.model_dump_json())
                await self._put(prefix, out, last=names.ONNX_NOTES_FILE)

    def _data(self, order: StepOrder, plan: TrainingPlan) -> AbstractAsyncContextManager[Path]:
        return self._host.cache.hold(self._host.store, names.dataset_key(order.tenant, plan.dataset_id))

    async def _results(self, order: StepOrder, step: str, into: Path) -> Path:
        """A step's files, without its model."""
        into.mkdir()
        prefix = names.step_prefix(order.tenant, order.job_id, step)
        for key in await self._host.store.list(prefix):
            name = key.removeprefix(f"{prefix}/")
            if name != names.STEP_MODEL and "/" not in name:
                await self._host.store.get_file(key, into / name)
        return into


def _task(order: StepOrder, plan: TrainingPlan) -> StepTask:
    return StepTask(tenant=order.tenant, job_id=order.job_id, step=order.step, plan=plan, fold=order.fold)


def _without_progress(result: StepResult) -> StepResult:
    """What the history keeps: the progress points stay in storage."""
    return result.model_copy(update={"progress": ()})
