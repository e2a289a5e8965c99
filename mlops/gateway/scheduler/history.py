"""A job as its history tells it: a pure fold over Temporal's events."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from temporalio.api.common.v1 import Memo, Payloads
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import PayloadConverter

from mlops import errors, names
from mlops.jobs.inference import BatchOutcome
from mlops.jobs.job import JobEvent, JobFailure, JobState, JobSummary, StepProgress, StepState
from mlops.jobs.report import Evaluated, StepResult, TrainingOutcome
from mlops.workflows.failures import failure_of

PAYLOADS: PayloadConverter = pydantic_data_converter.payload_converter

# Where a watcher is: the job's attempt, the event, and which of its news.
Place = tuple[int, int, int]


class JobHistory:
    """Feed it a job's events in order, from the first; it yields what a watcher is told, and knows the sum."""

    def __init__(self) -> None:
        self.state = JobState.QUEUED
        self.steps: dict[str, StepProgress] = {}
        self.outcome: TrainingOutcome | BatchOutcome | None = None
        self.failure: JobFailure | None = None
        # What the job was started with.
        self.memo = Memo()
        self.started_at = datetime.fromtimestamp(0, UTC)
        # When the event that was fed last happened: for a job that has ended, its end.
        self.latest_at = self.started_at
        self._scheduled: dict[int, str] = {}
        self._attempt = 1
        self._workflow = ""

    def feed(self, event: HistoryEvent) -> Iterator[JobEvent]:
        """What this event means; nothing for most of them."""
        self.latest_at = time = event.event_time.ToDatetime(tzinfo=UTC)
        for index, news in enumerate(self._news(event)):
            yield JobEvent(cursor=cursor(self._attempt, event.event_id, index), time=time, **news)

    def _news(self, event: HistoryEvent) -> Iterator[dict[str, Any]]:
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                started = event.workflow_execution_started_event_attributes
                self.memo, self._workflow = started.memo, started.workflow_type.name
                self._attempt = PAYLOADS.from_payload(self.memo.fields[names.MEMO_JOB], JobSummary).attempt
                self.started_at = self.latest_at
                yield {"state": JobState.QUEUED}
            case EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:
                attributes = event.upsert_workflow_search_attributes_event_attributes.search_attributes
                if names.ATTRIBUTE_STATE in attributes.indexed_fields:
                    payload = attributes.indexed_fields[names.ATTRIBUTE_STATE]
                    yield from self._move(JobState(PAYLOADS.from_payload(payload, str)))
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
                yield from self._move(JobState.CANCELLING)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                step = event.activity_task_scheduled_event_attributes.activity_id
                self._scheduled[event.event_id] = step
                yield self._step(step, StepState.SCHEDULED)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                completed = event.activity_task_completed_event_attributes
                step = self._scheduled[completed.scheduled_event_id]
                yield self._step(step, StepState.SUCCEEDED, 1.0)
                if metrics := _metrics(step, completed.result):
                    yield {"metrics": metrics, "metrics_step": step}
            case EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED:
                step = self._scheduled[event.activity_task_failed_event_attributes.scheduled_event_id]
                yield self._step(step, StepState.FAILED)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
                step = self._scheduled[event.activity_task_timed_out_event_attributes.scheduled_event_id]
                yield self._step(step, StepState.FAILED)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED:
                step = self._scheduled[event.activity_task_canceled_event_attributes.scheduled_event_id]
                yield self._step(step, StepState.CANCELLED)
            # A batch job's shards run in a workflow of their own.
            case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
                yield self._step(names.PREDICT_STEP, StepState.SCHEDULED)
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED:
                yield self._step(names.PREDICT_STEP, StepState.SUCCEEDED, 1.0)
            case (
                EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED
                | EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT
                | EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED
            ):
                yield self._step(names.PREDICT_STEP, StepState.FAILED)
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED:
                yield self._step(names.PREDICT_STEP, StepState.CANCELLED)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
                result = event.workflow_execution_completed_event_attributes.result
                kind = BatchOutcome if self._workflow == names.BATCH_WORKFLOW else TrainingOutcome
                self.outcome = PAYLOADS.from_payloads(result.payloads, [kind])[0]
                yield from self._move(JobState.SUCCEEDED)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
                cause = pydantic_data_converter.failure_converter.from_failure(
                    event.workflow_execution_failed_event_attributes.failure, PAYLOADS
                )
                self.failure = failure_of(cause)
                yield from self._move(JobState.FAILED)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
                yield from self._move(JobState.CANCELLED)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
                reason = event.workflow_execution_terminated_event_attributes.reason
                self.failure = JobFailure(
                    step="",
                    reason=errors.reason_of(errors.JobFailed),
                    message=f"The job was terminated by an operator{f': {reason}' if reason else ''}",
                )
                yield from self._move(JobState.FAILED)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
                self.failure = JobFailure(
                    step="", reason=errors.reason_of(errors.TimeLimitExceeded), message="The job's workflow timed out"
                )
                yield from self._move(JobState.FAILED)
            case _:
                return

    def _move(self, state: JobState) -> Iterator[dict[str, Any]]:
        if state is not self.state:
            self.state = state
            yield {"state": state}

    def _step(self, step: str, state: StepState, fraction: float | None = None) -> dict[str, Any]:
        self.steps[step] = StepProgress(step=step, state=state, fraction=fraction)
        return {"step": self.steps[step]}


def cursor(attempt: int, event_id: int, index: int) -> str:
    """A place as text. Most jobs have one attempt only, which is left out."""
    return f"{event_id}.{index}" if attempt == 1 else f"{attempt}.{event_id}.{index}"


def parse_cursor(text: str) -> Place:
    """The inverse of `cursor`; before everything for an empty text. Raises InvalidRequest."""
    if not text:
        return (0, 0, 0)
    parts = text.split(".")
    if not (len(text) < 60 and len(parts) in (2, 3) and all(part.isascii() and part.isdigit() for part in parts)):
        raise errors.InvalidRequest.of("cursor", f"{text[:40]!r} is no cursor that this job gave")
    numbers = [int(part) for part in parts]
    return (numbers[-3] if len(numbers) == 3 else 1, numbers[-2], numbers[-1])


def _metrics(step: str, result: Payloads) -> dict[str, float]:
    if step == names.FIT_STEP or step.startswith(names.fold_step(0)[:-1]):
        return dict(PAYLOADS.from_payloads(result.payloads, [StepResult])[0].scores)
    if step == names.EVALUATE_STEP:
        return dict(PAYLOADS.from_payloads(result.payloads, [Evaluated])[0].metrics)
    return {}
