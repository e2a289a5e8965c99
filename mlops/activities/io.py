"""The IO activities: asyncio over storage and MLflow. Each finds what an earlier try made before it makes anything."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from temporalio import activity

from mlops import errors, names
from mlops.activities.io_host import IoSteps
from mlops.activities.plans import read_plan
from mlops.activities.run_records import dataset_of, metrics_of, params_of, tags_of
from mlops.activities.unbroken import unbroken
from mlops.jobs.dataset import IngestJob, Source
from mlops.jobs.report import ModelNotes, StepResult, TrainingReport
from mlops.jobs.signature import signature_of
from mlops.jobs.tracking import EndedRun, LoggedModel, RegisteredVersion, RegisterOrder, StartedRun
from mlops.jobs.training import StepOrder, TrainingPlan
from mlops.tracking.claim import together
from mlops.tracking.protocol import ModelFiles
from mlops.workflows import stubs


class IoWork(IoSteps, stubs.IoActivities):
    """The IO activities of one tenant."""

    @activity.defn
    async def copy_source(self, job: IngestJob) -> Source:
        """Copies a URI into storage, by its hash."""
        async with self._step(job.tenant, names.COPY_STEP):
            if job.uri is None:
                raise errors.InvalidRequest.of("uri", "there is no URI to copy")
            return await self._host.sources.copy_in(job.tenant, job.uri, self._host.store, max_bytes=job.max_bytes)

    @activity.defn
    async def start_run(self, order: StepOrder) -> StartedRun:
        """The job's one run, found or made."""
        async with self._step(order.tenant, order.step):
            plan = await read_plan(self._host.store, order)
            return await unbroken(self._run(order, plan))

    @activity.defn
    async def log_run(self, order: StepOrder) -> LoggedModel:
        """Metrics, plots, dataset and model. Logging the same again changes nothing."""
        async with self._step(order.tenant, order.step):
            plan = await read_plan(self._host.store, order)
            run = await self._run(order, plan)
            report, results = await asyncio.gather(self._report(order), self._results(order, plan))
            points = metrics_of(report, results, since=activity.info().scheduled_time)
            model, *_ = await together(
                self._log_model(order, plan, run),
                self._host.tracking.log_metrics(order.tenant, run.run_id, points),
                self._host.tracking.log_dataset(order.tenant, run.run_id, dataset_of(plan)),
                *(self._log_file(order, run, name) for name in (names.STEP_REPORT, *report.plots)),
            )
            return LoggedModel.model_validate(model)

    @activity.defn
    async def register_version(self, order: RegisterOrder) -> RegisteredVersion:
        """The job's one version of the model name it asked for."""
        step = order.order
        async with self._step(step.tenant, step.step):
            plan, notes = await asyncio.gather(read_plan(self._host.store, step), self._notes(step))
            if plan.model_name is None:
                raise errors.InvalidRequest.of("spec.model_name", "there is no name to register the model under")
            version = await unbroken(
                self._host.tracking.register_version(
                    step.tenant,
                    model_name=plan.model_name,
                    model=order.model,
                    run_id=order.run_id,
                    job_id=step.job_id,
                    tags={**tags_of(step, plan), names.TAG_VERSIONS: notes.versions_text()},
                )
            )
            return RegisteredVersion(model_name=plan.model_name, version=version)

    @activity.defn
    async def end_run(self, ended: EndedRun) -> None:
        """Ends the run. With a model name: takes back the version that the job registered, if it did."""
        async with self._step(ended.tenant, names.FINISH_STEP):
            tracking = self._host.tracking
            if ended.model_name is not None:
                await tracking.delete_version(ended.tenant, model_name=ended.model_name, job_id=ended.job_id)
            run_id = ended.run_id
            if run_id is None:
                run = await tracking.find_run(ended.tenant, ended.job_id)
                run_id = run.run_id if run else None
            if run_id is not None:
                await tracking.finish_run(
                    ended.tenant, run_id, ended.status, ended_at=datetime.now(UTC), message=ended.message
                )

    async def _run(self, order: StepOrder, plan: TrainingPlan) -> StartedRun:
        return await self._host.tracking.start_run(
            order.tenant,
            job_id=order.job_id,
            experiment=names.experiment(plan.model_name),
            run_name=plan.name,
            tags=tags_of(order, plan),
            params=params_of(plan),
            started_at=activity.info().scheduled_time,
        )

    async def _log_model(self, order: StepOrder, plan: TrainingPlan, run: StartedRun) -> LoggedModel:
        notes = await self._notes(order)
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / names.STEP_MODEL
            await self._host.store.get_file(self._fit_key(order, names.STEP_MODEL), file, share=True)
            return await self._host.tracking.log_model(
                order.tenant,
                run,
                job_id=order.job_id,
                model=ModelFiles(
                    file=file,
                    signature=signature_of(plan),
                    input_example=await self._host.store.read_bytes(self._fit_key(order, names.STEP_EXAMPLE)),
                    trusted_types=notes.trusted_types,
                    versions=notes.versions,
                    extras=await self._extras(order, Path(directory)),
                ),
                params=params_of(plan),
                tags=tags_of(order, plan),
            )

    async def _extras(self, order: StepOrder, directory: Path) -> dict[str, Path]:
        """What predicting needs beside the model; jobs from before there was any have none."""
        found: dict[str, Path] = {}
        for step, name in (
            (names.FIT_STEP, names.CARD_FILE),
            (names.EXPORT_STEP, names.ONNX_FILE),
            (names.EXPORT_STEP, names.ONNX_NOTES_FILE),
        ):
            with contextlib.suppress(errors.NotFound):
                key = names.step_key(order.tenant, order.job_id, step, name)
                await self._host.store.get_file(key, directory / name)
                found[name] = directory / name
        return found

    async def _log_file(self, order: StepOrder, run: StartedRun, name: str) -> None:
        content = await self._host.store.read_bytes(
            names.step_key(order.tenant, order.job_id, names.EVALUATE_STEP, name)
        )
        await self._host.tracking.log_artifact(order.tenant, run.run_id, name, content)

    async def _report(self, order: StepOrder) -> TrainingReport:
        key = names.step_key(order.tenant, order.job_id, names.EVALUATE_STEP, names.STEP_REPORT)
        return TrainingReport.model_validate_json(await self._host.store.read_bytes(key))

    async def _results(self, order: StepOrder, plan: TrainingPlan) -> dict[str, StepResult]:
        steps = (names.FIT_STEP, *(names.fold_step(index) for index in range(plan.folds)))
        texts = await asyncio.gather(
            *(
                self._host.store.read_bytes(names.step_key(order.tenant, order.job_id, step, names.STEP_RESULT))
                for step in steps
            )
        )
        return {step: StepResult.model_validate_json(text) for step, text in zip(steps, texts, strict=True)}

    async def _notes(self, order: StepOrder) -> ModelNotes:
        return ModelNotes.model_validate_json(await self._host.store.read_bytes(self._fit_key(order, names.STEP_NOTES)))

    def _fit_key(self, order: StepOrder, name: str) -> str:
        return names.step_key(order.tenant, order.job_id, names.FIT_STEP, name)
