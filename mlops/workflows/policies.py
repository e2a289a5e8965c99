"""Timeouts and retry policies of every activity, in one place. Errors are named by their class's reason."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityCancellationType

from mlops import errors, names
from mlops.jobs.training import TrainingJob

# A worker that is gone is noticed after this; an outage of Temporal that is shorter costs no work.
HEARTBEAT_TIMEOUT = timedelta(seconds=30)

# What trying again cannot mend.
PERMANENT = [
    errors.reason_of(kind)
    for kind in errors.error_classes().values()
    if not kind.retryable and kind not in (errors.MlopsError, errors.JobError, errors.Internal)
] + ["PayloadsTooLarge"]


def cpu(job: TrainingJob) -> dict[str, Any]:
    """A step on the CPU queue: as many tries as the job allows, each within the job's time limit."""
    return {
        "task_queue": names.CPU_QUEUE,
        # Waiting for a core counts as started, so the bound here is the job's own, with room for a restart.
        "start_to_close_timeout": job.time_limit + timedelta(minutes=5),
        "heartbeat_timeout": HEARTBEAT_TIMEOUT,
        "retry_policy": RetryPolicy(
            initial_interval=timedelta(milliseconds=500),
            maximum_interval=timedelta(seconds=30),
            maximum_attempts=job.max_attempts,
            non_retryable_error_types=PERMANENT,
        ),
        # The job is over only when its core is free.
        "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    }


def io() -> dict[str, Any]:
    """A step on the IO queue: a service that is away is waited for, as long as the job's time limit allows."""
    return {
        "task_queue": names.IO_QUEUE,
        "start_to_close_timeout": timedelta(minutes=10),
        "heartbeat_timeout": HEARTBEAT_TIMEOUT,
        "retry_policy": RetryPolicy(
            initial_interval=timedelta(milliseconds=200),
            maximum_interval=timedelta(seconds=10),
            non_retryable_error_types=PERMANENT,
        ),
        "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    }


def undo() -> dict[str, Any]:
    """A compensation: tried for a day, since nobody else will do it."""
    return {**io(), "schedule_to_close_timeout": timedelta(days=1)}


def ingest_cpu() -> dict[str, Any]:
    """Reading a dataset: one host, one process."""
    return {
        "task_queue": names.CPU_QUEUE,
        "start_to_close_timeout": timedelta(hours=6),
        "heartbeat_timeout": HEARTBEAT_TIMEOUT,
        "retry_policy": RetryPolicy(
            initial_interval=timedelta(milliseconds=500), maximum_attempts=3, non_retryable_error_types=PERMANENT
        ),
        "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    }


def ingest_io() -> dict[str, Any]:
    """Copying a source."""
    return {**io(), "start_to_close_timeout": timedelta(hours=6)}
