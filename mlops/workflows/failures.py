"""Why a workflow failed, out of Temporal's chain of causes. Pure functions."""

from __future__ import annotations

from datetime import timedelta

from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    FailureError,
    is_cancelled_exception,
)
from temporalio.exceptions import TimeoutError as TemporalTimeoutError

from mlops import errors
from mlops.jobs.job import JobFailure


def failure_of(error: BaseException, *, step: str = "") -> JobFailure:
    """The failure report of whatever ended a job: the innermost cause that says something."""
    cause: BaseException = error
    while isinstance(cause, FailureError) and cause.cause is not None:
        if isinstance(cause, ActivityError):
            step = step or cause.activity_id
        if isinstance(cause, ApplicationError):
            break
        cause = cause.cause
    if isinstance(cause, ApplicationError):
        details = cause.details[0] if cause.details and isinstance(cause.details[0], dict) else {}
        return JobFailure(
            step=str(details.get("step") or step),
            reason=cause.type or "INTERNAL",
            error_class=str(details.get("error_class", "")),
            message=cause.message,
            hint=str(details.get("hint", "")),
        )
    if isinstance(cause, TemporalTimeoutError):
        return JobFailure(
            step=step,
            reason=errors.reason_of(errors.ChildCrashed),
            message="The worker that ran this step went away, on each try",
            hint="Look at the worker's log for the time of the failure; submit the job again",
        )
    return JobFailure(
        step=step, reason=errors.reason_of(errors.Internal), error_class=type(cause).__name__, message=str(cause)
    )


def as_application_error(failure: JobFailure) -> ApplicationError:
    """The error that a workflow ends with: the report rides in its details."""
    return ApplicationError(failure.message, failure.model_dump(mode="json"), type=failure.reason, non_retryable=True)


def time_limit_failure(limit: timedelta) -> JobFailure:
    """The job's own time limit passed."""
    return JobFailure(
        step="",
        reason=errors.reason_of(errors.TimeLimitExceeded),
        message=f"The job did not end within its time limit of {limit.total_seconds():g} s",
        hint="Give the job a longer time_limit, more cpus, fewer folds, or a smaller estimator",
    )


__all__ = ["as_application_error", "failure_of", "is_cancelled_exception", "time_limit_failure"]
