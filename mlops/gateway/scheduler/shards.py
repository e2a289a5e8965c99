"""How far a batch job's shards are: one step, put together out of one look at their workflow."""

from __future__ import annotations

import time

from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse

from mlops import names
from mlops.gateway.scheduler.heartbeats import steps_at_work
from mlops.gateway.scheduler.jobs import PAYLOADS
from mlops.jobs.inference import ShardsProgress
from mlops.jobs.job import StepProgress, StepState

# How a running shard says how many of its rows are done.
ROWS = "rows"


def shards_step(description: DescribeWorkflowExecutionResponse, *, now: float | None = None) -> StepProgress:
    """Rows, rows a second and seconds left, as of `now` (Unix seconds; the clock's where it is left out)."""
    memo = description.workflow_execution_info.memo.fields
    if names.MEMO_SHARDS not in memo:
        return StepProgress(step=names.PREDICT_STEP, state=StepState.SCHEDULED)
    progress = PAYLOADS.from_payload(memo[names.MEMO_SHARDS], ShardsProgress)
    steps = steps_at_work(description)
    under_way = sum(step.values.get(ROWS, 0.0) for step in steps if step.state is StepState.RUNNING)
    rows = min(progress.done_rows + under_way, float(progress.rows))
    passed = max((time.time() if now is None else now) - progress.started_at, 0.001)
    rate = rows / passed
    left = (progress.rows - rows) / rate if rate > 0 else None
    waits = rows == 0 and not any(step.state is StepState.RUNNING for step in steps)
    return StepProgress(
        step=names.PREDICT_STEP,
        state=StepState.WAITING if waits else StepState.RUNNING,
        fraction=rows / progress.rows if progress.rows else None,
        message=_message(progress, rows, rate, left),
        values={
            ROWS: rows,
            "rows_per_second": rate,
            **({} if left is None else {"seconds_left": left}),
            "shards": float(progress.done_shards),
        },
        attempt=max((step.attempt for step in steps), default=1),
    )


def _message(progress: ShardsProgress, rows: float, rate: float, left: float | None) -> str:
    parts = [f"{rows:,.0f} of {progress.rows:,} rows"]
    if left is not None:
        parts += [f"{rate:,.0f} rows/s", f"{left:,.0f} s left"]
    if progress.rejected_rows:
        parts.append(f"{progress.rejected_rows:,} rejected")
    return ", ".join(parts)
