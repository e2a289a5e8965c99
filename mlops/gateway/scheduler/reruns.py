"""Runs an ended job's workflow again, under its id and with what it was started with."""

from __future__ import annotations

import structlog
from temporalio.api.common.v1 import Memo, WorkflowExecution
from temporalio.api.enums.v1 import WorkflowExecutionStatus, WorkflowIdReusePolicy
from temporalio.api.history.v1 import WorkflowExecutionStartedEventAttributes
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import (
    DeleteWorkflowExecutionRequest,
    GetWorkflowExecutionHistoryRequest,
    StartWorkflowExecutionRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from mlops import names
from mlops.gateway.scheduler.jobs import PAYLOADS, summary_of
from mlops.jobs.job import JobState

log = structlog.get_logger(__name__)

IDENTITY_CHARS = 200


async def rerun(client: Client, tenant: str, info: WorkflowExecutionInfo, *, by: str) -> None:
    """Starts a new run of a workflow that has failed or was cancelled, then forgets the old one.

    Two calls at once start one run: they carry the same request id. A crash in between leaves the old run listed beside
    the new one until its retention ends, and loses nothing.
    """
    started = await _started(client, tenant, info.execution)
    attributes = started.search_attributes
    # Of the same type, which is in the metadata.
    attributes.indexed_fields[names.ATTRIBUTE_STATE].data = PAYLOADS.to_payload(JobState.QUEUED.value).data
    request = StartWorkflowExecutionRequest(
        namespace=names.namespace(tenant),
        workflow_id=info.execution.workflow_id,
        workflow_type=started.workflow_type,
        task_queue=started.task_queue,
        input=started.input,
        memo=_next_attempt(started.memo),
        search_attributes=attributes,
        workflow_id_reuse_policy=WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
        request_id=f"retry-{info.execution.run_id}",
        identity=by[:IDENTITY_CHARS],
    )
    try:
        await client.workflow_service.start_workflow_execution(request)
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise
        log.info("the job runs already", tenant=tenant, job_id=info.execution.workflow_id)
        return
    await forget(client, tenant, info.execution)


async def forget_runs(client: Client, tenant: str, workflow_id: str) -> None:
    """Deletes every ended run of a workflow."""
    async for row in client.list_workflows(f"WorkflowId = '{workflow_id}'"):
        if row.raw_info.status != WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING:
            await forget(client, tenant, row.raw_info.execution)


async def forget(client: Client, tenant: str, execution: WorkflowExecution) -> None:
    """Deletes a run; one that is gone already is fine. The server does it in the background."""
    request = DeleteWorkflowExecutionRequest(namespace=names.namespace(tenant), workflow_execution=execution)
    try:
        await client.workflow_service.delete_workflow_execution(request)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise


async def _started(
    client: Client, tenant: str, execution: WorkflowExecution
) -> WorkflowExecutionStartedEventAttributes:
    answer = await client.workflow_service.get_workflow_execution_history(
        GetWorkflowExecutionHistoryRequest(namespace=names.namespace(tenant), execution=execution, maximum_page_size=1),
        retry=True,
    )
    return answer.history.events[0].workflow_execution_started_event_attributes


def _next_attempt(memo: Memo) -> Memo:
    summary = summary_of(memo)
    later = Memo()
    later.CopyFrom(memo)
    told = summary.model_copy(update={"attempt": summary.attempt + 1})
    later.fields[names.MEMO_JOB].CopyFrom(PAYLOADS.to_payload(told))
    return later
