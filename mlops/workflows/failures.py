"""Why a workflow failed, out of Temporal's chain of causes. Pure functions."""

from __future__ import annotations

from typing import Any

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
    cause, step = _innermost(error, step)
    if isinstance(cause, ApplicationError):
        details = _details(cause)
        return JobFailure(
            step=str(details.get("step") or step),
            # Temporal's own kinds (WorkerShutdown) mean nothing to a data scientist.
            reason=cause.type if cause.type in errors.error_classes() else errors.reason_of(errors.ChildCrashed),
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


def details_of(error: BaseException) -> dict[str, Any]:
    """The details of the error of ours that lies at the bottom: a quota's limit, a field that breaks a rule."""
    cause, _ = _innermost(error, "")
    found = _details(cause).get("details") if isinstance(cause, ApplicationError) else None
    return dict(found) if isinstance(found, dict) else {}


def as_application_error(failure: JobFailure, details: dict[str, Any] | None = None) -> ApplicationError:
    """The error that a workflow ends with: the report rides in its details, with those of the error if they count."""
    report = failure.model_dump(mode="json") | {"details": details or {}}
    return ApplicationError(failure.message, report, type=failure.reason, non_retryable=True)


def _innermost(error: BaseException, step: str) -> tuple[BaseException, str]:
    """The cause that says something, and the step that it happened in."""
    cause = error
    while isinstance(cause, FailureError) and cause.cause is not None:
        if isinstance(cause, ActivityError):
            step = step or cause.activity_id
        if isinstance(cause, ApplicationError):
            break
        cause = cause.cause
    return cause, step


def _details(error: ApplicationError) -> dict[str, Any]:
    return error.details[0] if error.details and isinstance(error.details[0], dict) else {}


__all__ = ["as_application_error", "details_of", "failure_of", "is_cancelled_exception"]
