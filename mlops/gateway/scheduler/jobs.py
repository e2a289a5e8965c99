"""Workflow executions as jobs: what memo, status and history say, in the words of `mlops.jobs`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from temporalio.api.common.v1 import Memo
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.contrib.pydantic import pydantic_data_converter

from mlops import names
from mlops.jobs.inference import BatchInferencePlan
from mlops.jobs.job import Job, JobState, JobSummary
from mlops.jobs.training import TrainingPlan

Plan = TrainingPlan | BatchInferencePlan

PAYLOADS = pydantic_data_converter.payload_converter

_FINAL = {
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED: JobState.SUCCEEDED,
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_FAILED: JobState.FAILED,
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TIMED_OUT: JobState.FAILED,
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED: JobState.FAILED,
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CANCELED: JobState.CANCELLED,
}


def attributes_of(summary: JobSummary) -> TypedSearchAttributes:
    """What a job is found by."""
    pairs: list[SearchAttributePair[Any]] = [
        _pair(names.ATTRIBUTE_KIND, summary.kind.value),
        _pair(names.ATTRIBUTE_STATE, JobState.QUEUED.value),
        _pair(names.ATTRIBUTE_NAME, summary.name),
        _pair(names.ATTRIBUTE_OWNER, summary.owner),
        _pair(names.ATTRIBUTE_DATASET, summary.dataset_id),
    ]
    if summary.model_name:
        pairs.append(_pair(names.ATTRIBUTE_MODEL, summary.model_name))
    if summary.labels:
        labels = [names.label(key, value) for key, value in summary.labels.items()]
        pairs.append(SearchAttributePair(SearchAttributeKey.for_keyword_list(names.ATTRIBUTE_LABELS), labels))
    return TypedSearchAttributes(pairs)


def state_of(info: WorkflowExecutionInfo) -> JobState:
    """A job's state, from the workflow's status and, while it is open, from its search attribute."""
    final = _FINAL.get(info.status)
    if final is not None:
        return final
    payload = info.search_attributes.indexed_fields.get(names.ATTRIBUTE_STATE)
    return JobState(PAYLOADS.from_payload(payload, str)) if payload is not None else JobState.QUEUED


def job_of(info: WorkflowExecutionInfo) -> Job:
    """A job as lists show it."""
    summary = summary_of(info.memo)
    closed = info.HasField("close_time")
    return Job(
        id=info.execution.workflow_id,
        kind=summary.kind,
        name=summary.name,
        owner=summary.owner,
        labels=summary.labels,
        state=state_of(info),
        created_at=info.start_time.ToDatetime(tzinfo=UTC),
        finished_at=info.close_time.ToDatetime(tzinfo=UTC) if closed else None,
        dataset_id=summary.dataset_id,
        model_name=summary.model_name,
        attempt=summary.attempt,
    )


def summary_of(memo: Memo) -> JobSummary:
    """What lists show of a job."""
    return PAYLOADS.from_payload(memo.fields[names.MEMO_JOB], JobSummary)


def plan_of(memo: Memo) -> str:
    """The SHA-256 of its plan."""
    return PAYLOADS.from_payload(memo.fields[names.MEMO_PLAN], str)


def fingerprint_of(info: WorkflowExecutionInfo) -> str:
    """The fingerprint of the request that started it."""
    return PAYLOADS.from_payload(info.memo.fields[names.MEMO_FINGERPRINT], str)


def accepted(job_id: str, summary: JobSummary, plan: Plan, *, created_at: datetime) -> Job:
    """A job at the moment it is accepted."""
    job = Job(id=job_id, **summary.model_dump(), state=JobState.QUEUED, created_at=created_at)
    return with_plan(job, plan)


def with_plan(job: Job, plan: Plan) -> Job:
    """The job with its plan where its kind has it."""
    return job.model_copy(update={"plan" if isinstance(plan, TrainingPlan) else "batch_plan": plan})


def _pair(name: str, value: str) -> SearchAttributePair[str]:
    return SearchAttributePair(SearchAttributeKey.for_keyword(name), value)
