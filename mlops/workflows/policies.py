"""Timeouts and retry policies of every activity, in one place. Errors are named by their class's reason."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityCancellationType

from mlops import errors, names
from mlops.jobs.inference import BatchJob
from mlops.jobs.training import TrainingJob

# A worker that is gone is noticed after this; an outage of Temporal that is shorter costs no work.
HEARTBEAT_TIMEOUT = timedelta(seconds=30)

# How long a step may wait for its cores.
LONGEST_WAIT = timedelta(days=7)
# Tries of a step beyond the job's own.
REPLACEMENTS = 10

# What trying again cannot mend.
PERMANENT = [
    errors.reason_of(kind)
    for kind in errors.error_classes().values()
    if not kind.retryable and kind not in (errors.MlopsError, errors.JobError, errors.Internal)
] + ["PayloadsTooLarge"]


def cpu(job: TrainingJob | BatchJob) -> dict[str, Any]:
    """A step on the CPU queue.

    The job's time limit is the child's, and counts from the moment it has its cores: waiting for them is not the
    job's fault. The job's tries are for crashes, and the activity counts them; what goes on top is for workers that
    are replaced and services that are away.
    """
    return {
        "task_queue": names.CPU_QUEUE,
        "start_to_close_timeout": job.time_limit + LONGEST_WAIT,
        "heartbeat_timeout": HEARTBEAT_TIMEOUT,
        "retry_policy": RetryPolicy(
            initial_interval=timedelta(milliseconds=500),
            maximum_interval=timedelta(seconds=30),
            maximum_attempts=job.max_attempts + REPLACEMENTS,
            non_retryable_error_types=PERMANENT,
        ),
        # The job is over only when its core is free.
        "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    }


def io() -> dict[str, Any]:
    """A step on the IO queue: a service that is away is waited for, for a day."""
    return {
        "task_queue": names.IO_QUEUE,
        "schedule_to_close_timeout": timedelta(days=1),
        "start_to_close_timeout": timedelta(minutes=10),
        "heartbeat_timeout": HEARTBEAT_TIMEOUT,
        "retry_policy": RetryPolicy(
            initial_interval=timedelta(milliseconds=200),
            maximum_interval=timedelta(seconds=10),
            non_retryable_error_types=PERMANENT,
        ),
        "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    }


def copy() -> dict[str, Any]:
    """Fetching what may be far larger than memory: a source that is away is waited for as any service is."""
    return {**io(), "start_to_close_timeout": timedelta(hours=12)}


def undo() -> dict[str, Any]:
    """A compensation: nobody else will do it."""
    return io()


def ingest_cpu() -> dict[str, Any]:
    """Reading a dataset: one host, one process."""
    return {
        "task_queue": names.CPU_QUEUE,
        "start_to_close_timeout": timedelta(hours=6),
        "heartbeat_timeout": HEARTBEAT_TIMEOUT,
        "retry_policy": RetryPolicy(
            initial_interval=timedelta(milliseconds=500), maximum_attempts=5, non_retryable_error_types=PERMANENT
        ),
        "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    }


def ingest_io() -> dict[str, Any]:
    """Copying a source: somebody waits for the answer, so a source that is away is soon said to be."""
    return {
        **io(),
        "start_to_close_timeout": timedelta(hours=6),
        "retry_policy": RetryPolicy(
            initial_interval=timedelta(milliseconds=200), maximum_attempts=4, non_retryable_error_types=PERMANENT
        ),
    }
