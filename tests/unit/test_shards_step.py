"""How far a batch job's shards are, out of one look at their workflow."""

from __future__ import annotations

import pytest
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse

from mlops import names
from mlops.gateway.scheduler.jobs import PAYLOADS
from mlops.gateway.scheduler.shards import shards_step
from mlops.jobs.inference import ShardsProgress
from mlops.jobs.job import StepProgress, StepState


def described(progress: ShardsProgress | None, *running: StepProgress) -> DescribeWorkflowExecutionResponse:
    answer = DescribeWorkflowExecutionResponse()
    if progress is not None:
        memo = answer.workflow_execution_info.memo.fields[names.MEMO_SHARDS]
        memo.CopyFrom(PAYLOADS.to_payload(progress))
    for step in running:
        pending = answer.pending_activities.add(
            activity_id=step.step, state=PendingActivityState.PENDING_ACTIVITY_STATE_STARTED, attempt=step.attempt
        )
        pending.heartbeat_details.payloads.extend(PAYLOADS.to_payloads([step]))
    return answer


def test_rows_a_second_and_the_time_left_count_what_running_shards_have_done() -> None:
    progress = ShardsProgress(shards=10, rows=1000, done_shards=4, done_rows=400, rejected_rows=7, started_at=100.0)
    running = StepProgress(step="shard-00004", state=StepState.RUNNING, values={"rows": 50.0})
    step = shards_step(described(progress, running), now=109.0)
    assert (step.step, step.state) == ("predict", StepState.RUNNING)
    assert step.fraction == pytest.approx(0.45)
    assert step.values == pytest.approx({"rows": 450.0, "rows_per_second": 50.0, "seconds_left": 11.0, "shards": 4.0})
    assert step.message == "450 of 1,000 rows, 50 rows/s, 11 s left, 7 rejected"


def test_shards_that_all_wait_for_a_core_are_shown_as_waiting() -> None:
    progress = ShardsProgress(shards=2, rows=20, started_at=100.0)
    waiting = StepProgress(step="shard-00000", state=StepState.WAITING)
    step = shards_step(described(progress, waiting), now=101.0)
    assert (step.state, step.fraction) == (StepState.WAITING, 0.0)
    assert "left" not in step.message


def test_a_workflow_that_has_not_begun_is_scheduled() -> None:
    assert shards_step(described(None)).state is StepState.SCHEDULED
