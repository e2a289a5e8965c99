"""Temporal's errors as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from temporalio.service import RPCError, RPCStatusCode

from mlops import errors

AWAY = (
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.RESOURCE_EXHAUSTED,
    RPCStatusCode.ABORTED,
    RPCStatusCode.CANCELLED,
)


@contextmanager
def translated(resource_type: str = "job", resource_name: str = "") -> Iterator[None]:
    """What leaves the block is NotFound for the resource, SchedulerUnavailable, or a defect."""
    try:
        yield
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise errors.NotFound.of(resource_type, resource_name) from error
        if error.status in AWAY:
            raise errors.SchedulerUnavailable(f"Temporal does not answer: {error.message}") from error
        raise
