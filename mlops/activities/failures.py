"""An error of ours as Temporal carries it, so that retry policies and failure reports can read it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from temporalio.exceptions import ApplicationError

from mlops import errors


def as_application_error(error: errors.MlopsError, *, step: str) -> ApplicationError:
    """Type is the error's reason; details are what a failure report needs, and the error's own, whole."""
    details = {
        "step": error.details.get("step") or step,
        "hint": error.details.get("hint", ""),
        "error_class": error.details.get("error_class", ""),
        "details": error.details,
    }
    # A quota says itself whether waiting helps: a file that is too large stays too large.
    hopeless = isinstance(error, errors.QuotaExceeded) and error.retry_after_seconds is None
    return ApplicationError(error.message, details, type=error.reason, non_retryable=hopeless or not error.retryable)


@contextmanager
def translated(step: str) -> Iterator[None]:
    """Turns the errors of `mlops.errors` that leave the block into Temporal's."""
    try:
        yield
    except errors.MlopsError as error:
        raise as_application_error(error, step=step) from error
