"""An error of ours as Temporal carries it, so that retry policies and failure reports can read it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, FailureError

from mlops import errors

log = structlog.get_logger(__name__)


# A defect may be a full disk of one host: it is tried elsewhere, but not for ever.
DEFECT_TRIES = 3


def as_application_error(
    error: errors.MlopsError, *, step: str, retryable: bool | None = None, delay: timedelta | None = None
) -> ApplicationError:
    """Type is the error's reason; details are what a failure report needs, and the error's own, whole.

    retryable: against the error's class. delay: until the next try, against the retry policy.
    """
    details = {
        "step": error.details.get("step") or step,
        "hint": error.details.get("hint", ""),
        "error_class": error.details.get("error_class", ""),
        "details": error.details,
    }
    if retryable is None:
        # A quota says itself whether waiting helps: a file that is too large stays too large.
        hopeless = isinstance(error, errors.QuotaExceeded) and error.retry_after_seconds is None
        retryable = error.retryable and not hopeless
    return ApplicationError(
        error.message, details, type=error.reason, non_retryable=not retryable, next_retry_delay=delay
    )


@contextmanager
def translated(step: str) -> Iterator[None]:
    """Turns what leaves the block into Temporal's errors. What is none of ours is a defect, told by an incident id."""
    try:
        yield
    except errors.MlopsError as error:
        raise as_application_error(error, step=step) from error
    except FailureError:
        raise
    except Exception as error:
        incident = secrets.token_hex(6)
        log.exception("a step failed for a reason of ours", step=step, incident=incident)
        internal = errors.Internal(f"The platform failed in this step (incident {incident})", incident=incident)
        retryable = activity.info().attempt < DEFECT_TRIES
        raise as_application_error(internal, step=step, retryable=retryable) from error
