"""Starts, finds, lists, cancels and deletes jobs; takes in datasets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
    RequestCancelWorkflowExecutionRequest,
)
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowHistoryEventFilterType
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from mlops import errors, names
from mlops.gateway.scheduler.files import JobFiles
from mlops.gateway.scheduler.heartbeats import Heartbeats, Steps, steps_at_work
from mlops.gateway.scheduler.history import JobHistory
from mlops.gateway.scheduler.jobs import (
    Plan,
    accepted,
    attributes_of,
    fingerprint_of,
    job_of,
    plan_of,
    summary_of,
    with_plan,
)
from mlops.gateway.scheduler.namespaces import NamespaceProvider
from mlops.gateway.scheduler.pages import page_of
from mlops.gateway.scheduler.requests import Requests, forgotten, reused
from mlops.gateway.scheduler.reruns import forget, forget_runs, rerun
from mlops.gateway.scheduler.shards import shards_step
from mlops.gateway.scheduler.translate import translated
from mlops.gateway.scheduler.visibility import query_of
from mlops.gateway.scheduler.watch import watch
from mlops.jobs.dataset import DatasetProfile, Ingested, IngestedFiles, IngestJob
from mlops.jobs.inference import BatchInferencePlan, BatchJob
from mlops.jobs.job import Job, JobEvent, JobFilter, JobKind, JobPage, JobState, JobSummary, StepProgress, StepState
from mlops.jobs.training import TrainingJob, TrainingPlan
from mlops.storage.objects import ObjectStore
from mlops.workflows.failures import details_of, failure_of

OPEN = "ExecutionStatus = 'Running'"
# Of taking in one dataset, whatever happens.
INGEST_LIMIT = timedelta(hours=12)


class Scheduler:
    """The jobs of every tenant. `tenant` is the first argument of everything, and picks the namespace."""

    def __init__(self, client: Client, store: ObjectStore, *, retention: timedelta) -> None:
        self._client = client
        self._store = store
        self._retention = retention
        self._requests = Requests(store)
        self._files = JobFiles(store)
        # All of them share one connection.
        self._clients: dict[str, Client] = {}
        self._heartbeats = Heartbeats(self._at_work)
        self.provider = NamespaceProvider(client, retention=retention)

    async def start_training(
        self, tenant: str, *, job_id: str, owner: str, plan: TrainingPlan, fingerprint: str
    ) -> Job:
        """Starts the job, or returns the one that the same request started. Raises RequestIdReused."""
        summary = JobSummary(
            kind=JobKind.TRAINING,
            name=plan.name,
            owner=owner,
            labels=plan.labels,
            dataset_id=plan.dataset_id,
            model_name=plan.model_name,
        )

        def order(plan_sha256: str) -> TrainingJob:
            return TrainingJob(
                tenant=tenant,
                job_id=job_id,
                owner=owner,
                plan_sha256=plan_sha256,
                folds=plan.folds,
                time_limit=plan.time_limit,
                max_attempts=plan.max_attempts,
                model_name=plan.model_name,
            )

        return await self._start(tenant, job_id, names.TRAINING_WORKFLOW, summary, plan, order, fingerprint)

    async def start_batch(
        self, tenant: str, *, job_id: str, owner: str, plan: BatchInferencePlan, fingerprint: str
    ) -> Job:
        """The same for a batch inference."""
        summary = JobSummary(
            kind=JobKind.BATCH_INFERENCE,
            name=plan.name,
            owner=owner,
            labels=plan.labels,
            dataset_id=plan.dataset_id or "",
            model_name=plan.model_name,
        )

        def order(plan_sha256: str) -> BatchJob:
            return BatchJob(
                tenant=tenant,
                job_id=job_id,
                owner=owner,
                plan_sha256=plan_sha256,
                copies_input=plan.uri is not None,
                time_limit=plan.time_limit,
                max_attempts=plan.max_attempts,
            )

        return await self._start(tenant, job_id, names.BATCH_WORKFLOW, summary, plan, order, fingerprint)

    async def _start(
        self,
        tenant: str,
        job_id: str,
        workflow: str,
        summary: JobSummary,
        plan: Plan,
        order: Callable[[str], TrainingJob | BatchJob],
        fingerprint: str,
    ) -> Job:
        if await self._requests.check(tenant, job_id, fingerprint):
            known = await self.find_submission(tenant, job_id, fingerprint)
            if known is None:
                raise forgotten(job_id)
            return known
        plan_sha256 = await self._files.keep_plan(tenant, job_id, plan)
        with translated("job", job_id):
            try:
                await self._namespace(tenant).start_workflow(
                    workflow,
                    order(plan_sha256),
                    id=job_id,
                    task_queue=names.IO_QUEUE,
                    memo={names.MEMO_JOB: summary, names.MEMO_FINGERPRINT: fingerprint, names.MEMO_PLAN: plan_sha256},
                    search_attributes=attributes_of(summary),
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                )
            except WorkflowAlreadyStartedError as error:
                existing = await self.find_submission(tenant, job_id, fingerprint)
                if existing is None:
                    raise errors.SchedulerUnavailable(f"Job {job_id!r} is being deleted; try again") from error
                return existing
        self._requests.note(tenant, job_id, fingerprint)
        return accepted(job_id, summary, plan, created_at=datetime.now(UTC))

    async def retry_job(self, tenant: str, job_id: str, *, by: str) -> Job:
        """Runs a failed or cancelled job again; one that runs is returned as it is.

        Raises NotFound, and FailedPrecondition for one that has succeeded.
        """
        info = (await self._describe(tenant, job_id)).workflow_execution_info
        job = job_of(info)
        if job.state is JobState.SUCCEEDED:
            raise errors.FailedPrecondition(f"Job {job_id!r} has succeeded; nothing is missing")
        if not job.state.is_final:
            return job
        # A job without its plan is being deleted.
        await self._files.plan(tenant, job_id, job.kind, plan_of(info.memo))
        with translated("job", job_id):
            await rerun(self._namespace(tenant), tenant, info, by=by)
        return job_of((await self._describe(tenant, job_id)).workflow_execution_info)

    async def find_submission(self, tenant: str, job_id: str, fingerprint: str) -> Job | None:
        """The job that this very request started. Raises RequestIdReused where another request started it."""
        try:
            info = (await self._describe(tenant, job_id)).workflow_execution_info
        except errors.NotFound:
            return None
        if fingerprint_of(info) != fingerprint:
            raise reused(job_id)
        return job_of(info)

    async def get_job(self, tenant: str, job_id: str) -> Job:
        """The job with plan, steps, and result or failure. Raises NotFound."""
        history = JobHistory()
        handle = self._handle(tenant, job_id)
        with translated("job", job_id):
            async for event in handle.fetch_history_events():
                for _ in history.feed(event):
                    continue
        job = await self._told(tenant, job_id, history)
        if job.state.is_final:
            return job
        # What its steps are at is no part of the history.
        at_work = {step.step: step for step in await self._at_work(tenant, job_id)}
        return job.model_copy(update={"steps": tuple({**history.steps, **at_work}.values())})

    async def list_jobs(self, tenant: str, filter: JobFilter, *, page_size: int, page_token: str) -> JobPage:
        """One page, newest first, with counts by state. Raises InvalidRequest for a foreign page token."""
        return await page_of(
            self._namespace(tenant),
            tenant,
            filter,
            page_size=page_size,
            page_token=page_token,
            longest=self._retention + timedelta(days=7),
        )

    async def watch_job(self, tenant: str, job_id: str, cursor: str) -> AsyncGenerator[JobEvent, None]:
        """The job's events behind the cursor, until it has ended. Raises NotFound, InvalidRequest."""
        handle, history = self._handle(tenant, job_id), JobHistory()
        events = watch(handle, self._heartbeats, history, tenant=tenant, job_id=job_id, cursor=cursor)
        async with aclosing(events):
            async for event in events:
                cursor = event.cursor
                yield event
        # The history knows all of a job that has ended: nobody else has to be asked.
        yield JobEvent(cursor=cursor, time=history.latest_at, job=await self._told(tenant, job_id, history))

    async def ended_job(self, tenant: str, job_id: str) -> Job:
        """The job, as soon as it has ended: one call that Temporal answers then. Raises NotFound."""
        handle = self._handle(tenant, job_id)
        closing = handle.fetch_history_events(
            wait_new_event=True, event_filter_type=WorkflowHistoryEventFilterType.CLOSE_EVENT
        )
        with translated("job", job_id):
            async for _ in closing:
                continue
        return await self.get_job(tenant, job_id)

    async def cancel_job(self, tenant: str, job_id: str, *, reason: str, by: str) -> Job:
        """Asks the job to stop; one that has ended is returned as it is. Raises NotFound."""
        job = job_of((await self._describe(tenant, job_id)).workflow_execution_info)
        if job.state.is_final:
            return await self.get_job(tenant, job_id)
        # Nothing but Temporal is asked: a core is freed even while the storage is away.
        with translated("job", job_id):
            await self._client.workflow_service.request_cancel_workflow_execution(
                RequestCancelWorkflowExecutionRequest(
                    namespace=names.namespace(tenant),
                    workflow_execution=WorkflowExecution(workflow_id=job_id),
                    identity=by,
                    reason=reason,
                )
            )
        return job.model_copy(update={"state": JobState.CANCELLING})

    async def delete_job(self, tenant: str, job_id: str) -> None:
        """Forgets an ended job. Raises NotFound, and FailedPrecondition while it runs.

        The server deletes in the background and may list the job for half a minute; without its plan nobody reads it.
        """
        info = (await self._describe(tenant, job_id)).workflow_execution_info
        if info.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING:
            raise errors.FailedPrecondition(f"Job {job_id!r} has not ended; cancel it first")
        await self._requests.retire(tenant, job_id)
        client = self._namespace(tenant)
        with translated("job", job_id):
            await forget(client, tenant, info.execution)
            if summary_of(info.memo).kind is JobKind.BATCH_INFERENCE:
                await forget_runs(client, tenant, names.shards_workflow(job_id))

    async def active_jobs(self, tenant: str) -> int:
        """How many jobs of the tenant have not ended."""
        with translated():
            query = f"{query_of(JobFilter())} AND {OPEN}"
            return (await self._namespace(tenant).count_workflows(query)).count

    async def dataset_in_use(self, tenant: str, dataset_id: str) -> bool:
        """Whether a job that has not ended uses the dataset."""
        with translated():
            query = f"{names.ATTRIBUTE_DATASET} = '{dataset_id}' AND {OPEN}"
            return (await self._namespace(tenant).count_workflows(query)).count > 0

    async def ingest(self, tenant: str, job: IngestJob) -> Ingested:
        """Takes in a source and waits for it. The same source at the same time is taken in once.

        Raises what the workers raised: DataInvalid, NotFound, QuotaExceeded, …
        """
        source = f"{job.sha256 or job.uri}\n{job.read_options.canonical()}\n{job.source_name}"
        with translated("dataset", job.source_name):
            handle = await self._namespace(tenant).start_workflow(
                names.INGEST_WORKFLOW,
                job,
                id=names.ingest_workflow(source),
                task_queue=names.IO_QUEUE,
                result_type=IngestedFiles,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                execution_timeout=INGEST_LIMIT,
            )
            try:
                files: IngestedFiles = await handle.result()
            except WorkflowFailureError as error:
                failure = failure_of(error.cause)
                kind = errors.error_classes().get(failure.reason, errors.Internal)
                raise kind(failure.message, **(details_of(error.cause) or {"hint": failure.hint})) from error
        profile = await self._store.read_bytes(names.dataset_profile_key(tenant, files.dataset_id))
        return Ingested(**files.model_dump(), profile=DatasetProfile.model_validate_json(profile))

    def _namespace(self, tenant: str) -> Client:
        client = self._clients.get(tenant)
        if client is None:
            config = self._client.config()
            config["namespace"] = names.namespace(tenant)
            client = self._clients[tenant] = Client(**config)
        return client

    def _handle(self, tenant: str, job_id: str) -> WorkflowHandle[Any, Any]:
        """The job's workflow. Raises NotFound for an id that no job can have: other workflows live beside the jobs."""
        if not names.JOB_ID.match(job_id):
            raise errors.NotFound.of("job", job_id)
        return self._namespace(tenant).get_workflow_handle(job_id)

    async def _describe(self, tenant: str, job_id: str) -> DescribeWorkflowExecutionResponse:
        if not names.JOB_ID.match(job_id):
            raise errors.NotFound.of("job", job_id)
        return await self._describe_workflow(tenant, job_id, job_id)

    async def _describe_workflow(self, tenant: str, workflow_id: str, job_id: str) -> DescribeWorkflowExecutionResponse:
        with translated("job", job_id):
            return await self._client.workflow_service.describe_workflow_execution(
                DescribeWorkflowExecutionRequest(
                    namespace=names.namespace(tenant), execution=WorkflowExecution(workflow_id=workflow_id)
                ),
                retry=True,
            )

    async def _at_work(self, tenant: str, job_id: str) -> Steps:
        """The steps that are under way; those of a batch job's shards are shown as one."""
        description = await self._describe(tenant, job_id)
        steps = steps_at_work(description)
        if not description.pending_children:
            return steps
        if not description.pending_children[0].run_id:
            # It is asked for, and there is nothing yet to look at.
            return (*steps, StepProgress(step=names.PREDICT_STEP, state=StepState.SCHEDULED))
        return (*steps, shards_step(await self._describe_workflow(tenant, names.shards_workflow(job_id), job_id)))

    async def _told(self, tenant: str, job_id: str, history: JobHistory) -> Job:
        """The job as its history tells it, with what it left in storage. Raises NotFound where its files are deleted."""
        summary = summary_of(history.memo)
        plan, ended = await asyncio.gather(
            self._files.plan(tenant, job_id, summary.kind, plan_of(history.memo)),
            self._files.ended_with(tenant, job_id, history.outcome),
        )
        job = Job(
            id=job_id,
            **summary.model_dump(),
            state=history.state,
            created_at=history.started_at,
            finished_at=history.latest_at if history.state.is_final else None,
            steps=tuple(history.steps.values()),
            failure=history.failure,
            **ended,
        )
        return with_plan(job, plan)
